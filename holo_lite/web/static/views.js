/* Which of the two pages is shown: the storyboard or the films. */

import { attribute } from "./dom.js";

function shown() {
  const name = location.hash === "#films" ? "films" : "board";
  if (name === "films") void import("./gallery.js"); // its code comes when it is first wanted
  for (const section of document.querySelectorAll("main > section")) /** @type {HTMLElement} */ (section).hidden = section.id !== `view-${name}`;
  for (const link of document.querySelectorAll("nav.views a")) attribute(link, "aria-current", link.getAttribute("href") === `#${name}` ? "page" : null);
}

/** Follow the address from now on. */
export function followViews() {
  addEventListener("hashchange", () => { shown(); scrollTo(0, 0); });
  shown();
}
