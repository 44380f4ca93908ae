"""The page of compare in a real browser."""

import numpy as np
import pytest

from prnet_jax.compare.__main__ import main
from tests.browser import colours, one, set_width, start
from tests.compare.folders import probs, write_run

HOSTILE = "<img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three networks, one of two seeds; an image whose id is markup."""
    home = tmp_path_factory.mktemp("runs")
    ids = [HOSTILE, *(f"slice_{i:02d}" for i in range(1, 12))]
    runs = [
        write_run(home / "prnet_0", "prnet", 0, ids=ids, prob=probs(0.85, 1)),
        write_run(home / "prnet_1", "prnet", 1, ids=ids, prob=probs(0.85, 2)),
        write_run(home / "unet", "unet", 0, ids=ids, prob=probs(0.6, 3)),
        write_run(
            home / "net", "<b>net</b>", 0, ids=ids, prob=probs(0.75, 4), config={"learning_rate": 1}
        ),
    ]
    out = home / "out"
    assert main([*map(str, runs), "--out", str(out)]) == 0
    return out / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    """The page freshly loaded; after the test it must have logged no error and fetched nothing."""
    browser.set_window_size(1200, 900)
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title.startswith("Comparison: finding_lungs")
    assert browser.execute_script("return performance.getEntriesByType('resource')") == []


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def pick(browser, id, text):
    from selenium.webdriver.support.ui import Select

    Select(one(browser, f"#{id}")).select_by_visible_text(text)


def column(browser, table, number):
    cells = all_of(browser, f"#{table} tbody:first-of-type tr > :nth-child({number})")
    return [cell.text for cell in cells if cell.is_displayed()]


def test_a_click_on_a_head_sorts(opened):
    names = column(opened, "table-main", 1)
    assert names == ["UNet", "PR-Net (2 seeds)", "<b>net</b>"]
    head = one(opened, "#table-main th:nth-child(2)")
    assert head.get_attribute("aria-sort") == "none"
    for direction, expected in (
        ("ascending", ["UNet", "<b>net</b>", "PR-Net (2 seeds)"]),
        ("descending", ["PR-Net (2 seeds)", "<b>net</b>", "UNet"]),
    ):
        head.find_element("tag name", "button").click()
        assert head.get_attribute("aria-sort") == direction
        assert column(opened, "table-main", 1) == expected
        values = [float(text.split()[0]) for text in column(opened, "table-main", 2)]
        assert values == sorted(values, reverse=direction == "descending")
    # The paper's rows stay at the bottom.
    last = all_of(opened, "#table-main tbody:last-of-type th")
    assert [cell.text for cell in last] == ["paper: UNet", "paper: PR-Net"]


def test_what_rows_differ_in_stands_above_the_table(opened):
    (line,) = all_of(opened, "#differences li")
    assert line.text == "learning_rate: 1 in <b>net</b>; 0.001 in the others"
    table = one(opened, "#table-main")
    assert line.is_displayed() and line.location["y"] < table.location["y"]


def test_keys_sort_too(opened):
    from selenium.webdriver.common.keys import Keys

    one(opened, "#table-main th:nth-child(3) button").send_keys(Keys.ENTER)
    values = [float(text.split()[0]) for text in column(opened, "table-main", 3)]
    assert values == sorted(values)
    assert one(opened, "#table-main th:nth-child(3)").get_attribute("aria-sort") == "ascending"


def test_the_metric_picker_changes_the_boxes(opened):
    assert len(all_of(opened, "#box-plot .box")) == 3
    assert len(all_of(opened, "#box-plot .dot")) == 3 * 12
    before = one(opened, "#box-plot").get_attribute("innerHTML")
    assert "DSC %" in before
    pick(opened, "box-metric", "HD px")
    after = one(opened, "#box-plot").get_attribute("innerHTML")
    assert after != before and "HD px" in after and "DSC %" not in after


def test_boxes_are_quartiles(opened):
    """The drawn box, mapped back through the ticks, has the quartiles of the data."""
    data = opened.execute_script("return data.rows[0].scores.dsc.map((v) => 100 * v)")
    drawn = opened.execute_script(
        """
        const tick = [...document.querySelectorAll("#box-plot .tick")].map((t) =>
            [+t.querySelector("text").textContent, +t.querySelector("line").getAttribute("x1")]);
        const [[a, xa], [b, xb]] = [tick[0], tick[tick.length - 1]];
        const value = (x) => a + (x - xa) / (xb - xa) * (b - a);
        const box = document.querySelector("#box-plot .box");
        const left = +box.getAttribute("x"), width = +box.getAttribute("width");
        const median = +document.querySelector("#box-plot .median").getAttribute("x1");
        return [left, median, left + width].map(value);
        """
    )
    assert drawn == pytest.approx(np.percentile(data, [25, 50, 75]), abs=1e-3)


def test_scatter_of_any_two(opened):
    note = one(opened, "#scatter-note")
    assert note.text == "PR-Net (2 seeds) is better on 12 images, UNet on 0, equal on 0."
    before = one(opened, "#scatter-plot").get_attribute("innerHTML")
    pick(opened, "scatter-x", "<b>net</b>")
    assert one(opened, "#scatter-plot").get_attribute("innerHTML") != before
    assert "<b>net</b> on" in note.text
    pick(opened, "scatter-metric", "HD px")
    assert "HD px, <b>net</b>" in one(opened, "#scatter-plot").get_attribute("textContent")
    title = one(opened, "#scatter-plot .point title").get_attribute("textContent")
    assert title.split(":")[0] in {HOSTILE, *(f"slice_{i:02d}" for i in range(1, 12))}

    from selenium.webdriver.common.keys import Keys

    for point in all_of(opened, "#scatter-plot .point.shown")[:3]:
        point.send_keys(Keys.ENTER)
        name = point.get_attribute("aria-label").split(": ")[0]
        assert one(opened, "#scatter-detail h3").text == name
        assert len(all_of(opened, "#scatter-detail img")) == 2


def test_gallery(opened):
    assert len(all_of(opened, "#gallery article")) == 8
    one(opened, "#gallery-more").click()
    assert len(all_of(opened, "#gallery article")) == 12
    assert not one(opened, "#gallery-more").is_displayed()
    names = [head.text for head in all_of(opened, "#gallery h3")]
    assert HOSTILE in names and len(set(names)) == 12
    widths = opened.execute_async_script(
        "const images = [...document.querySelectorAll('#gallery img')];"
        "Promise.all(images.map((i) => i.decode())).then(() =>"
        " arguments[0](images.map((i) => i.naturalWidth)))"
    )
    assert len(widths) == 3 * 12 and set(widths) == {384}
    spans = [span.text for span in all_of(opened, "#gallery figcaption span")]
    seeds = [text for text in spans if "seed" in text]
    assert len(seeds) == 12 and all(text.endswith(" % (seed 0)") for text in seeds)

    pick(opened, "gallery-order", "of the two networks above")
    assert len(all_of(opened, "#gallery img")) == 2 * 12
    gaps = opened.execute_script(
        "return [...document.querySelectorAll('#gallery h3')].map((h) => {"
        " const i = data.ids.indexOf(h.textContent);"
        " return Math.abs(data.rows[0].scores.dsc[i] - data.rows[1].scores.dsc[i]); })"
    )
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > gaps[-1]


def test_statistics_show_one_metric_or_all(opened):
    assert column(opened, "table-statistics", 1) == ["DSC %"] * 2
    pick(opened, "statistics-metric", "IoU %")
    assert column(opened, "table-statistics", 1) == ["IoU %"] * 2
    pick(opened, "statistics-metric", "all")
    assert len(column(opened, "table-statistics", 1)) > 20


def test_provenance_opens(opened):
    details = all_of(opened, "#runs details")
    assert len(details) == 4
    details[0].find_element("tag name", "summary").click()
    assert "git_revision: 0123abc" in details[0].text


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(opened, width):
    set_width(opened, width)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    set_width(opened, None)


def test_dark_and_light(opened):
    light, dark = (colours(opened, scheme) for scheme in ("light", "dark"))
    assert light[0] != light[1] and dark[0] != dark[1]
    assert (light[0], dark[0]) == ("rgb(253, 253, 252)", "rgb(20, 23, 26)")
