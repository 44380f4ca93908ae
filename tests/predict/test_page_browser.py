"""The page of a prediction in a real browser."""

import numpy as np
import pytest

from prnet_jax.predict.page import embedded_prob, write_page
from tests.browser import colours, one, set_width, start
from tests.predict.shown import ABOUT, box, shown

HOSTILE = "<img src=x onerror=document.title='broken'>"
DEPTH = 12


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A volume, its half to the left air and to the right bone, and a grey picture."""
    folder = tmp_path_factory.mktemp("pages")
    pixels = np.full((48, 64, DEPTH), -1000, np.int16)
    pixels[:, 32:] = 1000
    mask = np.zeros(pixels.shape, bool)
    for z in range(2, DEPTH - 1):
        mask[8:40, 4 : 8 + 2 * z, z] = True
    probs = [embedded_prob(np.float32(mask[..., z]) * 0.9) for z in range(DEPTH)]
    volume = shown(pixels, mask, (1.0, 1.0, 2.0), HOSTILE, [HOSTILE])
    write_page(folder / "volume.html", volume, probs, ABOUT)
    grey = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    marked = box(grey.shape, (5, 30), (10, 40))
    picture = shown(grey, marked, unit="grey", window=(0, 255))
    write_page(folder / "picture.html", picture, [embedded_prob(np.float32(marked))], ABOUT)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, pages):
    """The volume's page freshly loaded; after the test it must have logged and fetched nothing."""
    browser.set_window_size(1200, 900)
    browser.get((pages / "volume.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title == f"Prediction: {HOSTILE}"
    fetched = browser.execute_script("return performance.getEntriesByType('resource')")
    assert [entry["name"][:11] for entry in fetched if entry["name"][:5] != "data:"] == []


def drawn(browser):
    """The number of the slice that the canvas shows once it is drawn."""
    label = "const done = arguments[0]; draw().then(() => done(canvas.getAttribute('aria-label')))"
    return int(browser.execute_async_script(label).split()[1])


# A copy, since browsers warn of a canvas that is read as well as shown.
COPY = """
const copy = blank(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
copy.drawImage(canvas, 0, 0);
const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
"""


def colour(browser, x, y):
    """RGB of the canvas at a place given in pixels of the slice."""
    drawn(browser)
    script = """
    const [column, row] = [(arguments[0] + 0.5) / 64, (arguments[1] + 0.5) / 48];
    const at = Math.floor(row * canvas.height) * canvas.width + Math.floor(column * canvas.width);
    return [...pixels.slice(4 * at, 4 * at + 3)];
    """
    return browser.execute_script(COPY + script, x, y)


def coloured(browser):
    """How many pixels of the canvas are not grey, as where a contour or a probability lies."""
    drawn(browser)
    script = """
    let found = 0;
    for (let i = 0; i < pixels.length; i += 4) {
      const rgb = pixels.slice(i, i + 3);
      if (Math.max(...rgb) - Math.min(...rgb) > 30) found += 1;
    }
    return found;
    """
    return browser.execute_script(COPY + script)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def test_keys_step_through_the_slices(opened):
    from selenium.webdriver.common.keys import Keys

    assert drawn(opened) == 11  # the largest area
    for keys, expected in (
        ([Keys.HOME], 1),
        ([Keys.ARROW_LEFT], 1),
        ([Keys.ARROW_RIGHT, Keys.ARROW_UP], 3),
        ([Keys.ARROW_DOWN], 2),
        ([Keys.PAGE_UP], 12),
        ([Keys.PAGE_DOWN], 2),
        ([Keys.END], 12),
    ):
        press(opened, *keys)
        assert drawn(opened) == expected
        assert one(opened, "#where").text.startswith(f"{expected} / {DEPTH}")
        assert one(opened, "#slider").get_attribute("value") == str(expected)
    # The same where the slider has the focus, which knows these keys too.
    one(opened, "#slider").send_keys(Keys.ARROW_LEFT)
    assert drawn(opened) == 11


def test_slider_and_buttons(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    slider = one(opened, "#slider")
    ActionChains(opened).move_to_element(slider).click().perform()
    assert drawn(opened) in (6, 7)
    before = drawn(opened)
    one(opened, "#on").click()
    one(opened, "#on").click()
    one(opened, "#back").click()
    assert drawn(opened) == before + 1


def test_a_click_on_the_curve_jumps(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    curve = one(opened, "#areas svg")
    for z in (0, 4, 11):
        width = float(curve.get_attribute("width"))
        place = 52 + z / (DEPTH - 1) * (width - 52 - 16)
        ActionChains(opened).move_to_element_with_offset(
            curve, round(place - width / 2), 0
        ).click().perform()
        assert drawn(opened) == z + 1
        assert float(one(opened, "#areas .now").get_attribute("x1")) == pytest.approx(place, abs=1)


def test_the_curve_is_the_areas(opened):
    path = one(opened, "#areas .line").get_attribute("d")
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    areas = [0, 0, *(32 * (4 + 2 * z) / 100 for z in range(2, DEPTH - 1)), 0]
    floor, most = heights[0], max(areas)
    assert [(floor - y) / (floor - min(heights)) for y in heights] == pytest.approx(
        [area / most for area in areas], abs=0.01
    )


def test_contour_and_probability_on_and_off(opened):
    contour = coloured(opened)
    assert contour > 200
    press(opened, "c")
    assert coloured(opened) == 0 and not one(opened, "#contour").is_selected()
    press(opened, "p")
    probability = coloured(opened)
    assert probability > 5 * contour and one(opened, "#prob").is_selected()
    assert one(opened, "#legend").is_displayed()
    one(opened, "#prob").click()
    one(opened, "#contour").click()
    assert coloured(opened) == contour
    assert not one(opened, "#legend").is_displayed()


def test_the_contour_is_the_border_of_the_mask(opened):
    opened.execute_script("goTo(6)")  # rows 8 to 39, columns 4 to 19
    for x, y in ((3.5, 24), (19.5, 24), (12, 7.5), (12, 39.5)):
        red, green, blue = colour(opened, x, y)
        assert red > 180 and blue > 160 and green < 110
    assert np.ptp(colour(opened, 12, 24)) == 0 and np.ptp(colour(opened, 28, 24)) == 0


def test_windows(opened):
    """Air is -1000 HU, bone 1000."""
    air, bone = (10, 4), (50, 24)
    # -1000 is 350 of the 1500 HU above the lower end of the lung window.
    for key, name, expected in (
        ("", "lung", 255 * 350 / 1500),
        ("w", "soft tissue", 0),
        ("w", "network", 0),
        ("w", "lung", 255 * 350 / 1500),
    ):
        press(opened, *key)
        pressed = opened.find_elements("css selector", "#windows [aria-pressed=true]")
        assert [button.text for button in pressed] == [name]
        assert colour(opened, *air)[0] == pytest.approx(expected, abs=6)
        assert colour(opened, *bone) == [255, 255, 255]
    opened.find_elements("css selector", "#windows button")[1].click()
    assert colour(opened, *air)[0] == 0


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("name", ["volume", "picture"])
def test_nothing_is_wider_than_the_window(opened, pages, name, width):
    set_width(opened, width)
    opened.get((pages / f"{name}.html").as_uri())
    drawn(opened)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    box = opened.execute_script(
        "const b = canvas.getBoundingClientRect(); return [b.width, b.height]"
    )
    assert box[0] > 300 and box[0] / box[1] == pytest.approx(
        64 / 48 if name == "volume" else 1.25, abs=0.02
    )
    set_width(opened, None)
    opened.get((pages / "volume.html").as_uri())


def test_a_picture_has_no_slider(opened, pages):
    opened.get((pages / "picture.html").as_uri())
    assert drawn(opened) == 1
    for selector in ("#slider", "#areas", "#side"):
        assert not one(opened, selector).is_displayed()
    press(opened, "w")
    assert opened.find_elements("css selector", "#windows button") == []
    assert coloured(opened) > 100
    opened.get((pages / "volume.html").as_uri())


def test_dark_and_light(opened):
    light, dark = (colours(opened, scheme) for scheme in ("light", "dark"))
    assert light[0] != light[1] and dark[0] != dark[1] and light[0] != dark[0]
