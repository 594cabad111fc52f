"""The pages about Homer: their settings, links and texts are those of the program."""

import re
import tomllib
from pathlib import Path

import pytest

from hep.sending.reasons import EXPECTS_TCP, EXPECTS_TLS
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.tracing import payloads

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "homer.md", *sorted((DOCS / "homer").glob("*.md"))]
HOMER = (DOCS / "homer.md").read_text()


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_quick_start_has_no_warning() -> None:
    [quick_start] = [
        block for block in re.findall(r"```toml\n(.*?)```", HOMER, re.DOTALL) if "[hep]" in block
    ]
    resolved = ResolvedConfig.of(Config.of(tomllib.loads(quick_start), "homer.md"))
    assert resolved.warnings == ()
    assert resolved.config.tracing.trace_sip_correlation == "connection"
    [destination] = resolved.destinations
    # The transport that each configuration of heplify-server listens on.
    assert (destination.port, destination.transport) == (9060, "udp")


def test_the_destinations_are_accepted() -> None:
    found = re.findall(r'`hep_id = (\[".*?"\])`', HOMER)
    assert len(found) == 3
    for each in found:
        Config.of(tomllib.loads(f"[hep]\nhep_id = {each}"), "homer.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_sections_lead_somewhere(page: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        other = page.parent / target if target else page
        assert section in anchors(other), f"{target}#{section}"


def test_other_pages_lead_to_sections_that_exist() -> None:
    for page in sorted(DOCS.glob("*.md")):
        for target, section in re.findall(r"\]\((homer[^)#:]*)#([^)]+)\)", page.read_text()):
            assert section in anchors(page.parent / target), f"{page.name}: {target}#{section}"


def test_the_hints_are_those_of_the_sender() -> None:
    for hint in (EXPECTS_TLS, EXPECTS_TCP):
        assert f"| `…; {hint}` |" in HOMER
    assert EXPECTS_TLS in (DOCS / "homer" / "troubleshooting.md").read_text()


def test_every_label_is_described() -> None:
    source = Path(payloads.__file__).read_text()
    words = set(re.findall(r'_label\([^"]*"([A-Z]+)', source))
    words |= set(re.findall(r'f"([A-Z]+) \{(?:status|event\.kind)\}"', source))
    assert words >= {"ACCEPTED", "CONNECTED", "CONNECTING", "CLOSED", "ERROR", "REFUSED", "FAILED"}
    for word in words:
        assert f"`WS {word}" in HOMER, word
    assert "`HEP LOST " in HOMER
