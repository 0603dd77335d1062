"""What pages tell people to type exists, and what the one on troubleshooting says a message is, is one."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from holo_lite.commands import group
from holo_lite.doctor.facts import ReportFacts
from holo_lite.doctor.judge_card import CUDA_BUILD, NEEDS_DRIVER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md"), *FORMS)
}
SOURCE = "".join(
    re.sub(r"\"\s+f?\"", "", path.read_text(encoding="utf-8"))  # strings that go on in the next line
    for path in (*(ROOT / "holo_lite").rglob("*.py"), *(ROOT / "quantize").rglob("*.py"))
)
COMMANDS = {command.name: command for command in group.COMMANDS}


def commands(page):
    """The words after `holo-lite`, wherever it stands as code."""
    typed = re.findall(r"`holo-lite ([^`]+)`", page)
    for block in re.findall(r"^```\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        typed += re.findall(r"^(?:\S*[/\\])?holo-lite (.+)$", block, flags=re.MULTILINE)
    return [words.split() for words in typed]


def options(command):
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page):
    for name, *words in commands(PAGES[page]):
        command = COMMANDS[name]
        assert {word for word in words if word.startswith("--")} <= options(command), (name, words)
        if words and hasattr(command, "commands"):
            assert words[0] in command.commands


def test_every_option_that_is_named_alone_is_some_commands():
    alone = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert alone
    assert alone <= {option for command in COMMANDS.values() for option in options(command)}


def test_every_message_that_is_explained_is_one():
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.partition("| message |")[2], flags=re.MULTILINE)
    assert len(rows) > 5
    for message in rows:
        for part in message.replace("(HTTP 401)", "(HTTP").split("…"):
            assert part.strip() in SOURCE, message


def test_what_it_says_of_builds_is_what_the_doctor_says():
    assert CUDA_BUILD in PAGE
    assert f"driver of version {NEEDS_DRIVER[13]} or newer" in PAGE
    assert "cu130" in CUDA_BUILD


def test_a_bug_report_asks_for_what_is_needed_to_reproduce_it():
    form = yaml.safe_load(PAGES["bug"])
    asked = {each["id"]: each for each in form["body"] if "id" in each}
    assert "holo-lite doctor --json" in asked["doctor"]["attributes"]["label"]
    required = {name for name, each in asked.items() if each.get("validations", {}).get("required")}
    assert {"doctor", "command", "message"} <= required
    assert "storyboard" in asked


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_every_form_is_one_that_the_host_understands(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    assert {each["type"] for each in form["body"]} <= {"markdown", "textarea"}


def test_what_a_report_holds_is_what_the_page_says():
    names = re.findall(r"`surroundings\.report\.(\w+)`", PAGE)
    assert set(names) == {field.name for field in dataclasses.fields(ReportFacts)} - {"source"}


def test_a_security_problem_has_a_private_way_and_no_invented_address():
    page = PAGES["SECURITY"]
    assert "Report a\nvulnerability" in page
    assert "@" not in page
