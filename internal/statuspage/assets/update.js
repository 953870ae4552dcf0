// Fetches the page again every two seconds and changes what has changed, in place: so what is selected, focused or scrolled
// stays so. Everything shown is made by the server.
"use strict";
(() => {
  const every = 2000;
  const lost = document.getElementById("lost");

  // become makes node a like b.
  function become(a, b) {
    if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName) {
      a.replaceWith(document.importNode(b, true));
      return;
    }
    if (a.nodeType !== Node.ELEMENT_NODE) {
      if (a.nodeValue !== b.nodeValue) a.nodeValue = b.nodeValue;
      return;
    }
    for (const {name} of [...a.attributes]) if (!b.hasAttribute(name)) a.removeAttribute(name);
    for (const {name, value} of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
    const from = [...a.childNodes], to = [...b.childNodes];
    to.forEach((node, i) => i < from.length ? become(from[i], node) : a.append(document.importNode(node, true)));
    from.slice(to.length).forEach(node => node.remove());
  }

  async function update() {
    try {
      const answer = await fetch("./", {cache: "no-store", signal: AbortSignal.timeout(4 * every)});
      if (!answer.ok) throw new Error(answer.status);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!next.getElementById("main")) throw new Error("not the page");
      document.title = next.title;
      for (const part of ["header", "main", "footer"]) become(document.querySelector(part), next.querySelector(part));
      lost.hidden = true;
      document.body.classList.remove("stale");
    } catch {
      if (lost.hidden) lost.querySelector("time").textContent = new Date().toTimeString().slice(0, 8);
      lost.hidden = false;
      document.body.classList.add("stale");
    }
  }

  async function loop() {
    for (;;) {
      await new Promise(done => setTimeout(done, every));
      if (document.visibilityState === "visible") await update();
    }
  }
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && update());
  loop();
})();
