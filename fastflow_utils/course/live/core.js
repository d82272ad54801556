// What every live figure shares. `live.kinds[kind](root, data)` builds one into an element.
const live = { kinds: {} };

// Build a live figure into `root` and, once it stands, hide the still picture that was there.
live.mount = async (root, data) => {
  const place = make("div", { className: "live-place" });
  place.onkeydown = (event) => {  // or JupyterLab would take arrows and letters for commands
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  };
  root.append(place);
  try {
    await live.kinds[data.kind](place, data, root.querySelector("img"));
    root.classList.add("moves");
  } catch (error) {  // in a page the still picture stays; in JupyterLab there is none
    console.error(error);
    if (root.querySelector("img")) place.remove();
    else root.append(make("pre", { role: "alert", textContent: String(error) }));
  }
};

// An element with properties, `aria-...` and `data-...` attributes, and children.
const make = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (/^(aria|data)-|^(role|style)$/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  element.append(...children);
  return element;
};

// From base64 of gzip to 8-bit numbers: the way back of pack() in packing.py.
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

// From the address of an image to one that is decoded and can be drawn at once.
const decoded = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return createImageBitmap(image);
};

// Call `draw` once in the next frame, however often it was asked for until then. Of each drawing
// `root` tells its number, and the milliseconds from the event that asked for it to the painted
// frame: `data-drawn` and `data-ms`.
const once = (draw, root) => {
  let since = null;
  return () => {
    if (since !== null) return;
    since = window.event?.timeStamp ?? performance.now();
    requestAnimationFrame(() => {
      const asked = since;
      since = null;
      draw();
      setTimeout(() => {  // after the frame is painted
        root.dataset.ms = (performance.now() - asked).toFixed(1);
        root.dataset.drawn = +(root.dataset.drawn ?? 0) + 1;
      });
    });
  };
};

// A pointer that is pressed on an element, until it is released: where, from 0 to 1, rightwards
// and downwards. A finger that may be about to scroll the page counts when it moves aside or lifts.
const drag = (element, touched) => {
  let start;
  const hear = (event) => {
    if (!element.hasPointerCapture(event.pointerId)) return;
    const { type, clientX: x, clientY: y } = event, box = element.getBoundingClientRect();
    if (start && type === "pointermove" && Math.abs(x - start.x) <= Math.abs(y - start.y)) return;
    start = null;
    touched((x - box.left) / box.width, (y - box.top) / box.height);
  };
  element.onpointerdown = (event) => {
    if (event.button) return;
    element.setPointerCapture(event.pointerId);
    start = event.pointerType === "touch" && getComputedStyle(element).touchAction !== "none"
      && event;
    if (!start) hear(event);
  };
  element.onpointermove = element.onpointerup = hear;
};

// A slider over the labels of a choice. An order (epochs, layers, severity) can be played.
// `moved` gets the number of the label. Returns an object: read and set `value`, `labels`.
let sliders = 0;
const slider = (root, { label, labels, value = 0, order = false }, moved) => {
  const id = `live-slider-${++sliders}-${Math.random().toString(36).slice(2, 7)}`;
  const input = make("input", { type: "range", id, min: 0, max: labels.length - 1, step: 1 });
  const shown = make("output", { htmlFor: id, "aria-live": "polite" });
  const row = make("div", { className: "live-slider" },
    make("label", { htmlFor: id, textContent: label }), input, shown);
  const say = () => {
    shown.textContent = input.ariaValueText = labels[input.value];
  };
  const go = (to) => { input.value = to; say(); moved(+input.value); };
  input.value = value;
  say();
  input.addEventListener("input", () => go(+input.value));
  if (order) {
    let timer = null;
    const button = make("button", { type: "button" });
    const offer = (sign, verb) => {
      button.textContent = sign;
      button.ariaLabel = `${verb} ${label}`;
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      offer("▶", "play");
    };
    stop();
    button.addEventListener("click", () => {
      if (timer) return stop();
      offer("⏸", "pause");
      if (+input.value === labels.length - 1) go(0);
      timer = setInterval(() => {
        if (document.hidden) return;  // nobody sees it
        if (!row.isConnected || +input.value === labels.length - 1) return stop();
        go(+input.value + 1);
      }, 700);
    });
    input.addEventListener("pointerdown", stop);
    input.addEventListener("keydown", stop);
    row.insertBefore(button, shown);
  }
  root.append(row);
  return {
    get value() { return +input.value; },
    set value(to) { go(to); },
    set labels(more) {
      labels = more;
      input.max = more.length - 1;
      say();
    },
  };
};

// A menu: for choices that have no order. `moved` gets the number of the option.
const menu = (root, { label, labels, value = 0 }, moved) => {
  const select = make("select", { "aria-label": label },
    ...labels.map((text, number) => make("option", { value: number, textContent: text })));
  select.value = value;
  select.addEventListener("change", () => moved(+select.value));
  root.append(make("label", { className: "live-menu" }, `${label} `, select));
  return select;
};

// In a page: mount each figure when it comes near the window, from the data at the page's end.
live.page = () => {
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      live.mount(target, JSON.parse(document.getElementById(target.dataset.live).textContent));
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll("[data-live]").forEach((one) => near.observe(one));
};
