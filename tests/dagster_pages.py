"""Dagster's pages as a person uses them, in a real Chromium; of every page a picture is kept."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster_dev import PROJECT, DagsterDev, wait_for
from playwright.sync_api import Locator, Page, expect, sync_playwright

PICTURES = PROJECT / ".local/screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # it refuses to run as root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCATION = "/locations/__repository__@seg"
SPINNER = "[class*=Spinner_spinner]:not([class*=Spinner_stopped])"
LONG = 600_000  # ms; the daemon looks at backfills every 30 s only, once for each level
ENDED = re.compile("^(Success|Failure|Succeeded|Failed|Canceled)$")


def chromium() -> str:
    """The system's own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"none of {', '.join(NAMES)} is on the PATH: install one with `make browser`"
    return found


@contextmanager
def opened(dagster: DagsterDev, story: str) -> Iterator["Pages"]:
    """A browser on a running `dagster dev`; its pictures go to a folder named after the story."""
    folder = PICTURES / story
    shutil.rmtree(folder, ignore_errors=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1800, "height": 950})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        pages = Pages(page, f"http://127.0.0.1:{dagster.port}", folder)
        try:
            yield pages
        finally:
            pages.picture("last")
            browser.close()


class Pages:
    """What one sees, and where one clicks."""

    def __init__(self, page: Page, address: str, folder: Path) -> None:
        self.page, self.address, self.folder, self.count = page, address, folder, 0

    def picture(self, name: str) -> None:
        """Keep what is seen now."""
        self.count += 1
        path = self.folder / f"{self.count:02}-{name}.png"
        self.page.screenshot(path=path, animations="disabled")

    def group(self, name: str) -> None:
        """Open the graph of a group of assets."""
        self.page.goto(f"{self.address}{LOCATION}/asset-groups/{name}/lineage")
        expect(self._button("Materialize")).to_be_enabled()

    def asset(self, key: str, view: str, partition: str = "") -> None:
        """Open an asset's page; a partition is chosen by its row, as one clicks it."""
        self.page.goto(f"{self.address}/assets/{key}?view={view}")
        for row in partition.split("|") if partition else ():
            self.page.get_by_text(row, exact=True).locator("visible=true").first.click()
        expect(self.page.locator(SPINNER)).to_have_count(0)

    def sees(self, text: str | re.Pattern[str], times: int = 1, timeout: int = 30_000) -> None:
        """Wait until a text is there as often as it should be."""
        found = self.page.get_by_text(text, exact=isinstance(text, str))
        expect(found.locator("visible=true")).to_have_count(times, timeout=timeout)

    def open_dialog(self) -> None:
        """What `Materialize` asks for."""
        self._button("Materialize").click()
        expect(self.dialog).to_be_visible()

    def confirm(self) -> None:
        """Say yes to the question that comes first."""
        self.dialog.get_by_role("button", name="Confirm").click()

    @property
    def dialog(self) -> Locator:
        """The window that is in front."""
        return self.page.get_by_role("dialog").last

    def choose_run(self, run: str) -> None:
        """Of the partitions, one training run."""
        self.dialog.get_by_text("Select a partition or create one").last.click()
        row = self.page.get_by_text(run, exact=True)
        self.page.get_by_role("menuitem").filter(has=row).click()
        self.page.keyboard.press("Escape")
        expect(self.page.get_by_role("menuitem")).to_have_count(0)

    def choose_all_blocks(self) -> None:
        """The button beside the first of the two dimensions."""
        chosen = self.dialog.get_by_text(re.compile("^[1-9][0-9]* partitions selected$"))

        def choose() -> bool:
            self.dialog.get_by_role("button", name="All", exact=True).first.click()
            return chosen.is_visible()

        wait_for("the dialog to know all blocks", choose)

    def only_failed_and_missing(self) -> None:
        """The option that a dialog of one asset has."""
        self.dialog.get_by_text("Backfill only failed and missing").click()

    def set_config(self, text: str) -> None:
        """Config for every dagster run that the dialog starts."""
        self.dialog.get_by_text("Config", exact=True).click()
        self.dialog.get_by_role("button", name="Add config").click()
        self.write(text)
        self.picture("config")
        self._button("Save config").click()

    def write(self, text: str) -> None:
        """Put a text into the editor of config in the place of what is there."""
        self.page.locator(".CodeMirror").last.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def launch(self) -> None:
        """Start what was chosen."""
        self.picture("chosen")
        self.dialog.get_by_role("button", name=re.compile("^Launch ")).click()
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def follow(self) -> str:
        """Go to the page of what was launched; returns how it ended."""
        self.page.get_by_role("link", name="View", exact=True).last.click()
        return self.ended()

    def launchpad(self, job: str, begins: str = "") -> None:
        """Open the page of a job where its config is filled in, which begins with something."""
        self.page.goto(f"{self.address}{LOCATION}/jobs/{job}/playground")
        expect(self.page.locator(".CodeMirror")).to_contain_text(begins)

    def launch_job(self) -> str:
        """Start what is filled in, which leads to its page; returns how it ended."""
        self.picture("filled-in")
        self._button("Launch Run").click()
        self.page.wait_for_url("**/runs/*")
        return self.ended()

    def ended(self) -> str:
        """Wait on the page of a dagster run or backfill for its end; returns what it says."""
        tag = "div:text-is('Status') + div" if "/runs/b/" in self.page.url else "body"
        status = self.page.locator(tag).get_by_text(ENDED).first
        expect(status).to_be_visible(timeout=LONG)
        self.picture("ended")
        return status.inner_text()

    def reload_definitions(self) -> None:
        """The button at the top of a graph."""
        self._button("Reload definitions").click()
        self.sees(re.compile("reloaded", re.IGNORECASE))

    def _button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name).locator("visible=true").first
