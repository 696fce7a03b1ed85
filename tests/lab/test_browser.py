"""In a real browser: the report page is usable, private and legible; notebooks run in JupyterLab. `make test-lab`."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: `make test-lab` installs it")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions import interaction  # noqa: E402
from selenium.webdriver.common.actions.action_builder import ActionBuilder  # noqa: E402
from selenium.webdriver.common.actions.pointer_input import PointerInput  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

import rvlib  # noqa: E402
from rvlib import compare, photos  # noqa: E402
from rvlib.study.notebooks import names  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --hide-scrollbars"
).split()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no browser: install Debian's packages chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The demo's report page, rendered from what its notebooks wrote; missing comparisons are made first."""
    parameters = tmp_path_factory.mktemp("page") / "params.yaml"
    folder = rvlib.ROOT / "reports" / "demo"
    names = ["compare_super_resolution", "compare_deblurring", "report"]
    parameters.write_text("profile: demo\n" + "".join(f"{name}: {{}}\n" for name in names))
    for name in (name for name in names if name == "report" or not (folder / name / "rows.csv").exists()):
        command = [sys.executable, "-m", "rvlib", "notebook", name, "--params", str(parameters)]
        done = subprocess.run(command, cwd=rvlib.ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "index.html"


AXE = """
const done = arguments[arguments.length - 1];
const told = (violation) => [violation.impact, violation.id, violation.nodes.map((node) => node.html.slice(0, 120))];
axe.run().then((found) => done(found.violations.map(told)), (error) => done([["error", String(error), []]]));
"""


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium with an empty profile, which logs its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}", "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(550)
    driver.command_executor.client_config.timeout = 600  # a slow notebook may run longer than two minutes
    # a page without the focus, as a headless one is, has no current notebook in JupyterLab
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    driver.get("about:blank")
    driver.get_log("performance")  # what the browser's own start page asked for is not the page's doing
    yield driver
    driver.quit()


def requested(browser):
    """Addresses of everything that the browser asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def errors(browser):
    """What the console complains about."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def phone(browser):
    """Make the window one of a telephone, 390 pixels wide."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def scheme(browser, name):
    """Ask for the light or the dark look."""
    feature = {"name": "prefers-color-scheme", "value": name}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def screenshot(browser, name):
    """Keep a picture of the whole page for people to look at, in reports/lab."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12000), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    target = rvlib.ROOT / "reports" / "lab" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(taken["data"]))


def slider(browser):
    """The first slider of the page: its input, what it says, where the line is and what is shown of the upper photo."""
    figure = browser.find_element(By.CSS_SELECTOR, "figure.slider")
    control = figure.find_element(By.CSS_SELECTOR, "input[type=range]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", control)
    state = (
        "return [arguments[0].querySelector('.line').style.left, arguments[0].querySelector('.after').style.clipPath]"
    )
    return control, lambda: (float(control.get_property("value")), *browser.execute_script(state, figure))


def assert_moved(state, value):
    shown, line, clip = state
    assert shown == pytest.approx(value, abs=3)
    assert float(line.strip("%")) == shown
    assert clip in (f"inset(0px 0px 0px {shown:g}%)", f"inset(0 0 0 {shown:g}%)")


def test_nothing_leaves_the_machine_and_nothing_complains(page, browser):
    browser.get(page.as_uri())
    control, _ = slider(browser)
    control.send_keys(Keys.ARROW_RIGHT)
    addresses = requested(browser)
    assert page.as_uri() in addresses
    assert [address for address in addresses if not address.startswith(("file:", "data:"))] == []
    assert [address for address in addresses if address.startswith("file:")] == [page.as_uri()]
    assert errors(browser) == []
    loads = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
    assert browser.execute_script(loads) == []
    assert browser.execute_script("return document.images.length") >= 6


def test_slider_by_keyboard(page, browser):
    browser.get(page.as_uri())
    control, state = slider(browser)
    assert_moved((state()[0], "50%", "inset(0 0 0 50%)"), 50)
    control.send_keys(Keys.ARROW_RIGHT * 10)
    assert_moved(state(), 60)
    control.send_keys(Keys.HOME)
    assert_moved(state(), 0)
    outline = "return getComputedStyle(arguments[0].closest('.frame')).outlineStyle"
    assert browser.execute_script(outline, control) == "solid", "one must see where the keyboard is"


def test_slider_by_mouse(page, browser):
    browser.get(page.as_uri())
    control, state = slider(browser)
    width = control.size["width"]
    at = lambda share: int(width * share - width / 2)  # noqa: E731
    ActionChains(browser).move_to_element_with_offset(control, at(0.25), 0).click().perform()
    assert_moved(state(), 25)
    ActionChains(browser).click_and_hold().move_by_offset(int(width * 0.5), 0).release().perform()
    assert_moved(state(), 75)


def test_slider_by_touch(page, browser):
    phone(browser)
    browser.get(page.as_uri())
    control, state = slider(browser)
    finger = PointerInput(interaction.POINTER_TOUCH, "finger")
    width = control.size["width"]
    actions = ActionBuilder(browser, mouse=finger, duration=100)
    actions.pointer_action.move_to(control, 0, 0).pointer_down().move_to(control, int(width * 0.3), 0).pointer_up()
    actions.perform()
    assert_moved(state(), 80)


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "tablet", "phone"])
def test_legible(page, browser, look, device):
    if device == "phone":
        phone(browser)
    if device == "tablet":
        browser.set_window_size(900, 1200)
    scheme(browser, look)
    browser.get(page.as_uri())
    wide = (
        "return [document.documentElement.scrollWidth, document.body.scrollWidth, document.documentElement.clientWidth]"
    )
    html, body, window = browser.execute_script(wide)
    assert window == {"phone": 390, "tablet": 900, "desktop": 1280}[device]
    assert max(html, body) <= window, "the page must not scroll sideways"
    for selector in ("body", "figcaption", "caption", ".facts", "nav a", ".summary"):
        assert contrast(browser, selector) >= 4.5, selector
    sizes = "[...document.querySelectorAll('main :not(input)')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert browser.execute_script(f"return Math.min(...{sizes})") >= 14
    screenshot(browser, f"{device}-{look}")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_serious(page, browser, look):
    """axe-core, from its Python package: WCAG's rules as far as a program can check them."""
    axe_core_python = pytest.importorskip("axe_core_python", reason="axe-core is missing: `make test-lab` installs it")
    scheme(browser, look)
    browser.get(page.as_uri())
    browser.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    found = browser.execute_async_script(AXE)
    assert [each for each in found if each[0] not in ("minor", "moderate")] == []


def test_tables_sort_and_sliders_zoom(page, browser):
    browser.get(page.as_uri())
    table = browser.find_element(By.CSS_SELECTOR, "table")
    read = "return [...arguments[0].tBodies[0].rows].map(row => row.cells[arguments[1]].textContent.trim())"
    heads = table.find_elements(By.CSS_SELECTOR, "th")
    column = next(index for index, head in enumerate(heads) if "PSNR" in head.text)
    button = heads[column].find_element(By.CSS_SELECTOR, "button")
    for falls in (True, False):
        browser.execute_script("arguments[0].click()", button)
        texts = browser.execute_script(read, table, column)
        values = [float(text.split()[0]) for text in texts if text[:1].isdigit()]
        assert values == sorted(values, reverse=falls) and len(values) > 2
        assert texts[len(values) :] == [text for text in texts if not text[:1].isdigit()], "what has no number is last"
    figure = browser.find_element(By.CSS_SELECTOR, "figure.slider")
    width = "return arguments[0].querySelector('img').getBoundingClientRect().width"
    before = browser.execute_script(width, figure)
    browser.execute_script("arguments[0].querySelector('button.zoom').click()", figure)
    assert browser.execute_script(width, figure) == pytest.approx(3 * before, rel=0.05)
    html, window = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert html <= window, "the photo scrolls in its frame"
    reach = "return [...arguments[0].querySelectorAll('.frame, img.before')].map(each => each.scrollHeight)"
    scrolled, photo = browser.execute_script(reach, figure)
    assert scrolled >= photo, "its lower end can be reached"


def test_without_scripts_all_is_there(page, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())

    def evaluate(expression):
        """What the debugger sees, which may look where the page's own scripts may not run."""
        asked = {"expression": expression, "returnByValue": True}
        return browser.execute_cdp_cmd("Runtime.evaluate", asked)["result"]["value"]

    assert evaluate("document.querySelectorAll('th button, button.zoom').length") == 0, "scripts did not run"
    assert evaluate("document.querySelector('details.table table').getBoundingClientRect().height") > 50
    box = "(r => [r.top, r.bottom, r.height])(document.querySelector('.slider .{}').getBoundingClientRect())"
    before, after = (evaluate(box.format(kind)) for kind in ("before", "after"))
    assert min(before[2], after[2]) > 50 and after[0] >= before[1], "both versions can be seen, one below the other"


def contrast(browser, selector):
    """WCAG's contrast of an element's words against the page."""
    colors = browser.execute_script(
        "return [getComputedStyle(document.querySelector(arguments[0])).color, "
        "getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    lights = []
    for color in colors:
        channels = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_structure_for_a_screen_reader(page, browser):
    browser.get(page.as_uri())
    find = lambda selector: browser.find_elements(By.CSS_SELECTOR, selector)  # noqa: E731
    assert len(find("h1")) == 1
    assert len(find("h2")) == len(find("nav a")) >= 6
    assert len(find(".numbers div")) == 3 and len(find(".pictures figure")) == 5
    assert all(browser.find_elements(By.CSS_SELECTOR, link.get_dom_attribute("href")) for link in find("nav a"))
    assert all(image.get_dom_attribute("alt") for image in find("img"))
    assert all(figure.find_element(By.CSS_SELECTOR, "figcaption").text for figure in find("figure"))
    captions = [table.find_element(By.CSS_SELECTOR, "caption").get_property("textContent") for table in find("table")]
    assert all(captions) and len(set(captions)) == len(captions)
    assert all(control.get_dom_attribute("aria-label") for control in find("input"))
    assert find("html")[0].get_dom_attribute("lang") == "en"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on the loopback interface, on copies of the notebooks, so that saving changes nothing here."""
    folder = tmp_path_factory.mktemp("lab")
    for name in names():
        shutil.copy(rvlib.ROOT / "notebooks" / f"{name}.ipynb", folder)
    panel = nbformat.v4.new_code_cell("from rvlib.study import widget\nwidget.panel()")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # without it, JupyterLab asks for one
    nbformat.write(nbformat.v4.new_notebook(cells=[panel], metadata=kernel), folder / "panel.ipynb")
    settings = folder / ".settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # so that all cells are there to be looked at
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--ServerApp.root_dir={folder}"]
    places = {"JUPYTER_CONFIG_DIR": str(folder / ".config"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    places["JUPYTERLAB_SETTINGS_DIR"] = str(folder / ".settings")
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | places, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status", server, folder / "log.txt")
        yield address
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address, server, log):
    """Until a server answers; its log is shown where it doesn't."""
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, Path(log).read_text()[-3000:]
            time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer: {Path(log).read_text()[-3000:]}")


RUN = """
const done = arguments[arguments.length - 1];
window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => done('ran'), error => done(String(error)));
"""
CELLS = """
const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
return [...Array(cells.length).keys()].map(i => cells.get(i)).filter(cell => cell.type == 'code').map(
  cell => [cell.executionCount, cell.outputs.toJSON()]);
"""
READY = """
const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
const kernel = panel && panel.sessionContext && panel.sessionContext.session && panel.sessionContext.session.kernel;
return Boolean(kernel && kernel.status == 'idle' && panel.content.model && panel.content.model.cells.length);
"""


OVERFLOWING = """
const outputs = [...document.querySelectorAll('.jp-OutputArea-output, .jp-RenderedMarkdown')];
const wide = outputs.filter(output => output.scrollWidth > output.clientWidth + 2);
return wide.map(output => [output.scrollWidth, output.clientWidth, output.innerText.slice(0, 80)]);
"""
HEIGHT = "return document.querySelector('.jp-WindowedPanel-outer').scrollHeight + 120;"
THEME = "return window.jupyterapp.commands.execute('apputils:change-theme', {theme: arguments[0]});"


def look(browser, name):
    """Screenshots of the whole notebook in the light and the dark theme, and what does not fit a laptop's width."""
    size = {"width": 1366, "height": min(browser.execute_script(HEIGHT), 16000), "deviceScaleFactor": 1}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"mobile": False})
    browser.execute_script("window.jupyterapp.commands.execute('application:toggle-left-area')")
    for theme in ("Light", "Dark"):
        browser.execute_script(THEME, f"JupyterLab {theme}")
        shown = f"return document.body.dataset.jpThemeName == 'JupyterLab {theme}'"
        WebDriverWait(browser, 30).until(lambda driver, shown=shown: driver.execute_script(shown))
        browser.execute_script("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        time.sleep(3)  # until all of the tall page is drawn
        screenshot(browser, f"{name}-{theme.lower()}")
    return browser.execute_script(OVERFLOWING)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_notebook_runs_in_jupyterlab(lab, browser, name):
    browser.get(f"{lab}/lab/tree/{name}.ipynb?reset")
    WebDriverWait(browser, 180).until(lambda driver: driver.execute_script(READY))
    browser.execute_script("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    assert browser.execute_async_script(RUN) == "ran"
    cells = browser.execute_script(CELLS)
    assert [count for count, _ in cells] == list(range(1, len(cells) + 1)), "every cell ran once, in order"
    outputs = [output for _, outputs in cells for output in outputs]
    assert outputs
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert not [output for output in outputs if "Traceback" in "".join(output.get("text", ""))]
    assert "Traceback" not in browser.find_element(By.TAG_NAME, "body").text
    assert [
        url for url in requested(browser) if not url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))
    ] == []
    if name == "00_tour":
        control, state = slider(browser)
        control.send_keys(Keys.ARROW_RIGHT * 10)
        assert_moved(state(), 60)
        assert browser.find_elements(By.CSS_SELECTOR, "button.jupyter-widgets.widget-upload")
    assert look(browser, name) == [], "an output is wider than the page of a laptop"


DROP = """
const [content, zone] = arguments, files = new DataTransfer();
const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
files.items.add(new File([bytes], 'mine.png', {type: 'image/png'}));
for (const kind of ['dragover', 'drop'])
  zone.dispatchEvent(new DragEvent(kind, {dataTransfer: files, bubbles: true, cancelable: true}));
"""


@pytest.mark.timeout(900)
def test_a_photo_dropped_on_the_panel_is_restored(lab, browser, tmp_path):
    photos.write(tmp_path / "mine.png", photos.sample("coffee")[:20, :30])
    browser.get(f"{lab}/lab/tree/panel.ipynb?reset")
    WebDriverWait(browser, 300).until(lambda driver: driver.execute_script(READY))
    assert browser.execute_async_script(RUN) == "ran"
    wait = WebDriverWait(browser, 300)
    zone = wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, ".rvlib-panel [ondrop]"))
    browser.execute_script(DROP, base64.b64encode((tmp_path / "mine.png").read_bytes()).decode(), zone)
    wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".rvlib-panel a[download]"))
    control, state = slider(browser)
    control.send_keys(Keys.ARROW_RIGHT * 10)
    assert_moved(state(), 60)
    screenshot(browser, "panel")


def test_the_page_that_compares_models_is_usable_on_a_phone_and_without_scripts(browser, tmp_path):
    part = compare.part(photos.sample("coffee"), 32)
    chains = {"sharp": rvlib.create("nafnet", width=4, encoder=(1,), middle=1, decoder=(1,))}
    chains["large"] = rvlib.create("fsrcnn", d=4, s=2, m=1, scale=2)
    page = tmp_path / "page.html"
    compare.write(page, {"coffee.png": (part, compare.trials(chains, part))})
    browser.get(page.as_uri())
    control, state = slider(browser)
    control.send_keys(Keys.ARROW_RIGHT * 10)
    assert_moved(state(), 60)
    assert [url for url in requested(browser) if not url.startswith("data:")] == [page.as_uri()]
    assert errors(browser) == []
    widths = "return [...document.querySelectorAll('.frame')].map(each => each.clientWidth)"
    assert len(set(browser.execute_script(widths))) == 1, "models of two scales are shown at one size"
    browser.find_element(By.ID, "zoom").send_keys(Keys.ARROW_RIGHT * 2)
    scrolled = "const frames = document.querySelectorAll('.frame'); frames[0].scrollLeft = 40; return new Promise("
    scrolled += "done => setTimeout(() => done([...frames].map(each => each.scrollLeft)), 300))"
    assert browser.execute_script(scrolled) == [40, 40], "zoomed pictures of a photo scroll together"
    phone(browser)
    scheme(browser, "dark")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    shown = browser.find_elements(By.CSS_SELECTOR, ".slider img")
    assert len({image.rect["y"] for image in shown}) == 4, "before and after one above the other"
    assert not browser.find_element(By.ID, "zoom").is_displayed()
