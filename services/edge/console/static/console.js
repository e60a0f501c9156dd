// The figures of "now" anew every few seconds, and charts drawn from the tables below them.
"use strict";

const REFRESH_MS = 5000;
const WEI_PER_ETH = 1e18; // for drawing only: what is exact stands in the table
const HEIGHT = 190;

function keepFresh(place) {
  let timer = 0;

  function wait() {
    clearTimeout(timer);
    timer = document.hidden ? 0 : setTimeout(refresh, REFRESH_MS);
  }

  async function refresh() {
    try {
      const answer = await fetch(place.dataset.refresh, { signal: AbortSignal.timeout(REFRESH_MS) });
      if (answer.status === 401 || answer.status === 403) {
        location.reload(); // nobody is signed in any more: the form says so
        return;
      }
      if (answer.ok) place.innerHTML = await answer.text(); // made by our server, which escapes
      place.classList.toggle("stale", !answer.ok);
    } catch {
      place.classList.add("stale");
    }
    wait();
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) refresh();
  });
  wait();
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function inEth(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: false });
}

function axisWidth(plot, values) {
  const longest = Math.max(...(values ?? [""]).map((value) => value.length));
  return 14 + 7 * longest;
}

// A bar for each row; the axis has room for the hours or days that are still to come.
function options(place, names, reading, texts) {
  const axis = { stroke: colour("--soft"), ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    padding: [12, 4, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { time: false, range: () => [-0.6, names.length - 0.4] }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
    series: [
      {},
      {
        fill: colour("--fill"),
        stroke: colour("--fill"),
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.66, 40], radius: 0.2 }),
      },
    ],
    axes: [
      {
        ...axis,
        grid: { show: false },
        gap: 4,
        size: 28,
        space: 60,
        incrs: [1, 2, 3, 4, 5, 6, 7, 10, 12],
        values: (_, splits) => splits.map((index) => names[index] ?? ""),
      },
      {
        ...axis,
        grid: { stroke: colour("--line"), width: 1 },
        space: 40,
        size: axisWidth,
        values: (_, splits) => splits.map(inEth),
      },
    ],
    hooks: {
      setCursor: [
        (plot) => {
          const index = plot.cursor.idx;
          reading.textContent = texts[index] ?? texts.at(-1);
        },
      ],
    },
  };
}

function draw(table) {
  const place = document.getElementById(table.dataset.chart);
  const reading = place.parentElement.querySelector(".reading");
  const names = JSON.parse(table.dataset.names);
  const rows = [...table.tBodies[0].rows];
  const wei = rows.map((row) => Number(row.querySelector("data").value) / WEI_PER_ETH);
  const values = names.map((_, index) => wei[index] ?? null);
  const texts = rows.map((row) => `${row.cells[0].textContent} · ${row.cells[1].textContent.trim()} ETH`);
  const data = [names.map((_, index) => index), values];
  let plot = null;

  function paint() {
    plot?.destroy();
    plot = new uPlot(options(place, names, reading, texts), data, place);
    reading.textContent = texts.at(-1);
  }

  table.closest("details").open = false;
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
}

document.querySelectorAll("[data-refresh]").forEach(keepFresh);
document.querySelectorAll("table[data-chart]").forEach(draw);
