"""Names out of links, models and manifests are text, whatever JavaScript has under the same name."""

import pytest

from tests.page.nodejs import needs_node, run_module

ODD = ["__proto__", "constructor", "toString", "hasOwnProperty", "<img src=x onerror=alert(1)>", "\x1b[2J"]


@needs_node
@pytest.mark.parametrize("name", ODD)
def test_titles_and_counts(name: str) -> None:
    found = run_module(
        """
        const { title, callsOf, guess } = await load("views/titles.js");
        return [title({ name: given }), callsOf({}, given, 8), guess([0, 1], ["a", given])];
        """,
        name,
    )
    assert found == [name, 8, f"{name}, 100 %"]


@needs_node
@pytest.mark.parametrize("name", ODD)
def test_solvers_and_graphs_of_these_names_do_not_exist(name: str) -> None:
    found = run_module(
        """
        const { walk } = await load("engine/solvers.js"), { Export } = await load("engine/session.js");
        const said = [];
        try { await walk(given, null, [0], [0, 1]).next(); } catch (error) { said.push(error.message); }
        const manifest = { graphs: { head: { inputs: [{ name: given, dtype: "float32" }] } } };
        const opened = new Export({ InferenceSession: { create: () => ({}) } }, () => new Uint8Array(), manifest);
        manifest.graphs.head.sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (const graph of [given, "head"]) {
          try { await opened.run(graph, {}); } catch (error) { said.push(error.message); }
        }
        return said;
        """,
        name,
    )
    assert found == [
        f"there is no solver {name} here; there are euler, heun, midpoint",
        f"manifest.json has no graph {name}",
        f"the graph head asks for {name}, which no model of ours has",
    ]


BROWSER = """
const kept = new Map(given.kept);
globalThis.location = { href: given.href };
globalThis.history = { state: null, replaceState: (state, title, url) => (location.href = String(url)) };
globalThis.sessionStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
};
globalThis.document = { baseURI: given.href, documentElement: { dataset: given.served ? { server: "yes" } : {} } };
const asked = [];
globalThis.fetch = async (url, { headers }) => {
  asked.push([String(url), headers.Authorization]);
  return { ok: true, json: async () => ({ models: [] }) };
};
const { RemoteBackend } = await load("remote.js");
let said = null;
try { said = (await RemoteBackend.find())?.kind ?? null; } catch (error) { said = error.message; }
return { said, asked, href: location.href, kept: [...kept] };
"""


@needs_node
def test_the_token_leaves_the_address_and_lasts_as_long_as_the_tab() -> None:
    site = "http://127.0.0.1:8000/"
    opened = run_module(BROWSER, {"href": f"{site}?token=secret&seed=3#memory", "kept": [], "served": True})
    asked = [[f"{site}api/models", "Bearer secret"]]
    kept = [["token", "secret"]]
    assert opened == {"said": "remote", "asked": asked, "href": f"{site}?seed=3#memory", "kept": kept}
    again = run_module(BROWSER, {"href": f"{site}?seed=4", "kept": kept, "served": True})
    assert (again["said"], again["asked"]) == ("remote", asked)
    without = run_module(BROWSER, {"href": site, "kept": [], "served": True})
    assert (without["said"], without["asked"]) == (
        "this tab has no token: open the address that flowgression serve printed",
        [],
    )
    static = run_module(BROWSER, {"href": f"{site}?token=secret", "kept": [], "served": False})
    assert (static["said"], static["asked"]) == (None, [])
