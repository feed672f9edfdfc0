// The page follows the log: one stream tells that something changed, and the page then asks for itself again.
"use strict";
(() => {
  const LOST_MS = 25000;
  const AGAIN_MS = 3000;
  const body = document.body;
  const skew = Number(body.dataset.now) - Date.now();
  const now = () => Date.now() + skew;

  // ---- ages
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const duration = (ms) => {
    const seconds = Math.max(0, Math.round(ms / 1000));
    const [size, unit] = UNITS.find(([size]) => seconds >= size) || UNITS[3];
    return `${Math.floor(seconds / size)}\u00a0${unit}`;
  };
  const age = () => {
    for (const one of document.querySelectorAll("time.age")) {
      const text = `${duration(now() - Number(one.dataset.at))} ago`;
      if (one.textContent !== text) one.textContent = text;
    }
  };

  // ---- the stream
  const shown = document.getElementById("live");
  const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
  let source = null;
  let told = now();
  let heard = Date.now();
  let timer = null;

  const say = (state, text) => {
    body.classList.toggle("live", state === "live");
    body.classList.toggle("lost", state === "lost");
    if (shown.textContent !== text) shown.textContent = text;
  };
  const live = () => {
    heard = Date.now();
    told = now();
    shown.setAttribute("aria-live", "off"); // a clock that is read out each second would be noise
    say("live", `live, ${clock(told)} UTC`);
  };
  const lost = () => {
    shown.setAttribute("aria-live", "polite");
    say("lost", `connection lost, last update ${clock(told)} UTC`);
  };
  const tell = (name) => body.dispatchEvent(new CustomEvent(name, { bubbles: true }));
  const close = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };
  const open = () => {
    close();
    let first = true;
    source = new EventSource(body.dataset.live);
    source.addEventListener("alive", () => {
      live();
      tell("alive");
    });
    source.addEventListener("changed", (event) => {
      live();
      // What the page was made of and what the stream begins with are the same, unless this is a new connection.
      if (!first || event.data !== body.dataset.changes) tell("changed");
      first = false;
      body.dataset.changes = event.data;
    });
    source.onerror = () => {
      lost();
      close();
      timer = setTimeout(open, AGAIN_MS);
    };
  };
  if (body.dataset.live) {
    open();
    setInterval(() => {
      if (source && Date.now() - heard > LOST_MS) {
        lost();
        open();
      }
    }, 5000);
    // A browser gives a site six connections: a tab that nobody sees holds none.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close();
      else open();
    });
    window.addEventListener("pagehide", close);
  }
  setInterval(age, 1000);

  // ---- charts
  const charts = new WeakMap();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const marked = (data) => (chart) => {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = colour("--strong-line");
    ctx.fillStyle = colour("--soft");
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    let free = -Infinity;
    for (const mark of data.marks) {
      const x = Math.round(chart.valToPos(mark.x, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (x > free) {
        ctx.fillText(mark.label, x + 3 * devicePixelRatio, bbox.top + 10 * devicePixelRatio);
        free = x + ctx.measureText(mark.label).width + 8 * devicePixelRatio;
      }
    }
    ctx.restore();
  };
  const times = (chart, splits) => {
    const days = splits.length > 1 && splits[1] - splits[0] >= 86400;
    return splits.map((x) => new Date(x * 1000).toISOString().slice(...(days ? [5, 10] : [11, 16])));
  };
  const draw = (element) => {
    const text = element.dataset.chart;
    const known = charts.get(element);
    if (known && known.text === text && known.width === element.clientWidth) return;
    if (known) known.plot.destroy();
    const data = JSON.parse(text);
    const axis = { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const last = data.x.length - 1;
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 190,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { x: { time: true } },
        cursor: { drag: { x: false, y: false }, y: false },
        axes: [{ ...axis, values: times }, { ...axis, size: 52 }],
        series: [
          { label: "window to, UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
          { label: "reward per step", stroke: () => colour("--accent"), width: 1.6, points: { show: data.x.length < 60, size: 4, fill: () => colour("--accent") }, value: (_, value) => (value == null ? "no data yet" : value.toPrecision(3)) },
        ],
        hooks: { draw: [marked(data)], setLegend: [(chart) => chart.cursor.idx == null && chart.legend.idx !== last && chart.setLegend({ idx: last }, false)] },
      },
      [data.x, data.y],
      element,
    );
    plot.setLegend({ idx: last }, false);
    charts.set(element, { text, plot, width: element.clientWidth });
  };
  const drawn = (again) => {
    for (const element of document.querySelectorAll(".chart")) {
      if (again) {
        const known = charts.get(element);
        if (known) known.text = null;
      }
      draw(element);
    }
  };
  window.addEventListener("resize", () => drawn(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn(true));

  // ---- what an update leaves alone: what a person has opened, and is about to type in
  document.addEventListener("toggle", (event) => event.target.toggleAttribute("hx-morph-skip", event.target.open), true);
  document.addEventListener("htmx:after:swap", () => {
    age();
    drawn(false);
    const notice = document.querySelector("[data-focus]");
    if (notice) {
      notice.removeAttribute("data-focus");
      notice.focus();
    }
  });
  drawn(false);
})();
