"""The policy that the build writes for servers, and the repairs that make a strict one possible."""

import importlib.util
import sys

import pytest

PAGE = """<html><head><script>DOCUMENTATION_OPTIONS.pagename = '{name}';</script>
<script src="a.js"></script><script type="application/json">{{"x": 1}}</script></head>
<body><button onclick="window.print()"
  class="btn">.pdf</button><script>let same = 1;</script></body></html>"""


def tool(root, name):
    spec = importlib.util.spec_from_file_location(name, root / "book" / "_tools" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def policy(root):
    return tool(root, "policy")


@pytest.fixture
def html(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "template.html").write_text("<p onclick='no page of ours'>")
    for name in ("index", "book/a", "book/b"):
        (tmp_path / f"{name}.html").write_text(PAGE.format(name=name))
    return tmp_path


def script_sources(html):
    line = (html / "_headers").read_text().splitlines()[1]
    return next(part for part in line.split("; ") if part.startswith("script-src")).split()[1:]


def test_all_pages_share_the_same_scripts_and_have_no_handlers(policy, html):
    policy.publish(html)
    assert script_sources(html) == [
        "'self'",
        *sorted(map(policy.source_of, [policy.SAME_FOR_ALL, "let same = 1;"])),
    ]
    page = (html / "book" / "a.html").read_text()
    assert 'data-pagename="book/a"' in page and "onclick" not in page and 'class="btn">.pdf' in page
    assert "onclick" in (html / "_static" / "template.html").read_text()


def test_publishing_twice_changes_nothing(policy, html):
    policy.publish(html)
    before = {path: path.read_bytes() for path in html.rglob("*") if path.is_file()}
    policy.publish(html)
    assert before == {path: path.read_bytes() for path in html.rglob("*") if path.is_file()}


def test_a_changed_script_changes_the_policy(policy, html):
    policy.publish(html)
    before = script_sources(html)
    page = html / "index.html"
    page.write_text(page.read_text().replace("same = 1", "same = 2"))
    policy.publish(html)
    assert len(script_sources(html)) == len(before) + 1


@pytest.mark.parametrize(
    "code",
    [
        '<img src="a.png" onerror="f()">',
        "<p ONCLICK=f()>",
        '<a href="javascript:f()">',
        '<a href=" JavaScript:f()">',
        "<body onload>",
    ],
)
def test_code_in_attributes_stops_the_build_and_its_page_is_named(policy, code):
    with pytest.raises(ValueError, match=r"bad\.html has code in attributes"):
        policy.policy({"good.html": "<p>", "bad.html": code})


def test_the_line_stays_short_enough_for_hosts(policy):
    pages = {f"{k}.html": f"<script>let k = {k};</script>" for k in range(40)}
    with pytest.raises(ValueError, match="40 different scripts"):
        policy.policy(pages)


@pytest.mark.parametrize(
    ("element", "runs"),
    [
        ("<script>let a;</script>", True),
        ("<script type=module>let a;</script>", True),
        ("<script type=text/javascript>let a;</script>", True),
        ("<script type=application/vnd.jupyter.widget-state+json>{}</script>", False),
        ("<script src=a.js>let a;</script>", False),
        ("<style>p {}</style>", False),
    ],
)
def test_what_runs_gets_a_hash(policy, element, runs):
    assert ("sha256-" in policy.policy({"a.html": element})) == runs


def test_nothing_is_allowed_without_a_reason(policy):
    assert all(len(reason) > 8 for _, reason in policy.POLICY.values())
    assert "unsafe-eval" not in str(policy.POLICY) and "*" not in str(policy.POLICY)


def test_the_widget_manager_loses_its_validators_or_the_build_stops(root):
    assets = tool(root, "assets")
    before, after = "const gt=new(ft()),mt=gt.compile(pt),bt=gt.compile(At);", "let C=1"
    assert assets.without_validators(before + after) == "const mt=()=>true,bt=()=>true;" + after
    for script in (after, before * 2):
        with pytest.raises(ValueError, match="places that compile"):
            assets.without_validators(script)
