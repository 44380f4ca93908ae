"""What all pages share: the document around a command's own body."""

import re

from prnet_jax.figures.pages import fill_page


def test_the_document_around_a_body(tmp_path):
    folder = tmp_path / "shown"
    folder.mkdir()
    (folder / "page.html").write_text("<main>$words</main>\n")
    (folder / "page.css").write_text("main { color: red }\n")
    (folder / "page.js").write_text("show(data);\n")
    page = fill_page(folder, {"a": "</script>"}, title="A &amp; B", words="$title")
    assert page.startswith("<!DOCTYPE html>") and page.endswith("</body>\n</html>\n")
    assert page.count("<head>") == page.count("<body>") == page.count("<footer>") == 1
    assert "<title>A &amp; B</title>" in page
    assert "<main>$title</main>" in page  # what is filled in is not filled in again
    assert "python -m prnet_jax.shown<" in page
    assert page.index("main { color: red }") < page.index("</style>")
    assert page.index("show(data);") < page.rindex("</script>")
    assert re.search(r'id="data">\{"a":"\\u003c/script>"\}</script>', page)
    assert "default-src 'none'" in page
