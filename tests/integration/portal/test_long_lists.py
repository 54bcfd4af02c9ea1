"""Long lists on pages: links to the next page that work without JavaScript, and nothing left out."""

import re


def walked(reader, path, pattern):
    """What ``pattern`` finds on a page and on all that follow."""
    found = []
    while path:
        text = reader.see(path).text
        found.append(re.findall(pattern, text))
        following = re.search(r'href="([^"]+)">Next page', text)
        path = following and following[1].replace("&amp;", "&")
    return found


def test_the_history_of_a_field_server(site):
    reader = site.signed_in("ana@example.com")
    device = site.activated(site.device("plant"), (site.sell("Harbour", ("mqtt", 2), ("smartdriver", 2)).lines[1], 1))
    for _ in range(119):
        site.post(device.say("refresh"))
    pages = walked(reader, f"/field-servers/{device.id}", r"message (\d+) of epoch")
    assert [len(page) for page in pages] == [50, 50, 20]
    numbers = [int(number) for page in pages for number in page]
    assert numbers == sorted(set(numbers), reverse=True)


def test_who_holds_a_line(site):
    reader = site.signed_in("ana@example.com")
    line = site.sell("Harbour", ("smartdriver", 100)).lines[0]
    made = {str(site.activated(site.device(f"d{number}"), (line, 1)).id) for number in range(52)}
    pages = walked(reader, f"/lines/{line.line_id}", r'row"><a href="/field-servers/([\w-]{43})"')
    assert [len(page) for page in pages] == [50, 2]
    assert {device for page in pages for device in page} == made


def test_the_api_reference_has_every_route_and_every_document_it_names(site):
    text = site.signed_in("ana@example.com").see("/api-reference").text
    document = site.web.openapi()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in text
    anchors = set(re.findall(r'href="#(\w+)"><code>', text))
    assert {"ChangedLine", "NewEntitlement"} <= anchors
    assert anchors <= set(re.findall(r'<section class="box" id="(\w+)"', text))
    assert "http" not in re.sub(r'href="https://[^"]*"', "", text.partition("<main")[2])  # nothing comes from elsewhere
