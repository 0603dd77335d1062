"""What a screen reader is told of the page, and films that the page is told of without any being made."""

# Every text that a screen reader is handed unasked, from now on.
LISTEN = """() => {
  window.heard = [];
  const live = "[aria-live], [role=status], [role=alert], output";
  new MutationObserver(changes => changes.forEach(({ target }) => {
    const place = (target.nodeType === 1 ? target : target.parentElement)?.closest(live);
    if (place) window.heard.push(place.textContent);
  })).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
# Texts that are read again whenever a dialog above them closes; messages go by themselves.
KEPT = """[...document.querySelectorAll(":is([aria-live], [role=status], [role=alert], output):not(.toasts)")]
  .map(place => place.textContent).filter(text => text.trim() !== "")"""
TELL = "([name, record]) => import('/static/store.js').then(({ putTold }) => putTold(name, record))"
SETUP = "part => import('/static/store.js').then(s => s.putTold('setup', { ...s.now('setup'), ...part }))"


def tree(page):
    """Every node that a screen reader is told of: its role, its name, and its description."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    said = (
        {name: node.get(name, {}).get("value", "") for name in ("role", "name", "description")} for node in nodes
    )
    return [each for node, each in zip(nodes, said, strict=True) if not node["ignored"]]


def wait_to_hear(page, text):
    page.wait_for_function("text => window.heard.some(heard => heard.includes(text))", arg=text)


def tell(page, name, record):
    """Let the page believe that the server has told it something."""
    page.evaluate(TELL, [name, record])


def film(name):
    """A film of two shots, of which everything was kept."""
    shots = [
        {"number": number, "first": first, "end": end, "caption": f"Shot {number} of {name}.", "still": None}
        for number, first, end in ((1, 0, 13), (2, 13, 29))
    ]
    size = {"frames": 29, "fps": 15, "seconds": 29 / 15, "width": 64, "height": 48, "bytes": 1000, "when": 0}
    kept = {"url": "/none.mp4", "poster": "/static/icon.svg", "sheet": "/static/icon.svg", "facts": []}
    return {"id": name, "name": f"{name}.mp4", "shots": shots, "ours": True, "latents": True, **size, **kept}
