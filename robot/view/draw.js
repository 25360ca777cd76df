"use strict";
// Drawing: a canvas, a line chart over time, the map and the strip of states.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const STATES = ["STOPPED", "READY", "FALLBACK", "LIMITED", "ACTIVE"];
const SHADES = ["--stopped", "--ready", "--fallback", "--limited", "--active"];
const HEIGHTS = [1, 0.25, 0.8, 0.6, 0.4]; // what asks for attention is tall
const known = (value) => typeof value === "number" && isFinite(value);

function surface(canvas, tall) {
  const wide = canvas.clientWidth;
  canvas.dataset.high = canvas.dataset.high || canvas.height;
  const high = tall || Number(canvas.dataset.high);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(Math.round(wide * scale), 1);
  canvas.height = Math.round(high * scale);
  canvas.style.height = high + "px";
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.clearRect(0, 0, wide, high);
  pen.font = "11px system-ui, sans-serif";
  return { pen, wide, high };
}

function range(low, high) {
  if (!known(low) || !known(high) || low > high) return [0, 1];
  const span = high - low;
  if (!(span > 0) || !isFinite(span)) return [low - 0.5, low + 0.5];
  return [low - 0.05 * span, high + 0.05 * span];
}

function line(pen, xs, ys, at, shade, width) {
  pen.strokeStyle = css(shade);
  pen.lineWidth = width;
  pen.beginPath();
  let down = false;
  for (let i = 0; i < ys.length; i++) {
    if (!known(ys[i]) || !known(xs[i])) { down = false; continue; }
    const [x, y] = at(xs[i], ys[i]);
    if (down) pen.lineTo(x, y); else pen.moveTo(x, y);
    down = true;
  }
  pen.stroke();
}

// Draw lines {ys, shade, width} over xs, with bounds {y, label} and the moment shown; all of them
// are in view. `ends` labels both ends of the axis; without it, xs are times.
function chart(canvas, xs, lines, bounds, cursor, ends) {
  const { pen, wide, high } = surface(canvas);
  const left = 52, top = 8, bottom = high - 18, right = wide - 8;
  let low = Infinity, most = -Infinity;
  for (const each of lines) for (const y of each.ys) if (known(y)) { low = Math.min(low, y); most = Math.max(most, y); }
  for (const { y } of bounds) if (known(y)) { low = Math.min(low, y); most = Math.max(most, y); }
  [low, most] = range(low, most);
  const [begin, end] = [xs[0], xs[xs.length - 1]];
  const span = known(end - begin) && end > begin ? end - begin : 1;
  const at = (x, y) => [left + (x - begin) / span * (right - left), bottom - (y - low) / (most - low) * (bottom - top)];
  pen.fillStyle = css("--quiet");
  pen.textAlign = "right";
  pen.fillText(short(most), left - 6, top + 8);
  pen.fillText(short(low), left - 6, bottom);
  pen.textAlign = "left";
  const [first, last] = ends || ["0 s", short(span) + " s"];
  pen.fillText(first, left, high - 4);
  pen.textAlign = "right";
  pen.fillText(last, right, high - 4);
  pen.strokeStyle = css("--line");
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip();
  bounds.forEach(({ y, label }, k) => {
    if (!known(y)) return;
    const height = at(begin, y)[1];
    pen.setLineDash([4, 4]);
    line(pen, [begin, begin + span], [y, y], at, "--quiet", 1);
    pen.setLineDash([]);
    pen.textAlign = k ? "right" : "left"; // so that labels of near bounds do not meet
    if (label) pen.fillText(label, k ? right - 4 : left + 4, height < top + 14 ? height + 11 : height - 3);
  });
  for (const each of lines) line(pen, xs, each.ys, at, each.shade, each.width);
  if (known(xs[cursor])) line(pen, [xs[cursor], xs[cursor]], [low, most], at, "--text", 1);
  pen.restore();
}

function short(value) {
  if (!known(value)) return "unknown";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// Draw places without a cost, path, geofence, scan and robot. `rows` has position and may have heading
// and scan. Return the view in metres; nothing if there is no place to show.
function drawMap(canvas, rows, cursor, about, ground) {
  const { pen, wide, high } = surface(canvas, Math.min(Math.max(0.75 * canvas.clientWidth, 240), 430));
  const [xs, ys] = rows.position || [[], []];
  const fence = about.fence;
  const corners = fence ? [fence.keep_in_m, ...fence.keep_out_m] : [];
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  const hold = (x, y) => {
    if (!known(x) || !known(y)) return;
    box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
  };
  xs.forEach((x, i) => hold(x, ys[i]));
  corners.flat().forEach(([x, y]) => hold(x, y));
  if (box[0] > box[2]) {
    pen.fillStyle = css("--quiet");
    pen.fillText("The log holds no position.", 8, 20);
    return;
  }
  const spanX = Math.max(box[2] - box[0], 0.5), spanY = Math.max(box[3] - box[1], 0.5);
  const scale = Math.min((wide - 24) / spanX, (high - 52) / spanY);
  if (!(scale > 0) || !isFinite(scale)) return;
  const midX = (box[0] + box[2]) / 2, midY = (box[1] + box[3]) / 2;
  const at = (x, y) => [wide / 2 + (x - midX) * scale, high / 2 - 14 - (y - midY) * scale];
  if (ground && ground.free) drawGround(pen, ground, at);
  for (const polygon of corners) {
    pen.beginPath();
    polygon.forEach(([x, y], i) => (i ? pen.lineTo(...at(x, y)) : pen.moveTo(...at(x, y))));
    pen.closePath();
    pen.strokeStyle = css("--text");
    pen.lineWidth = 1.5;
    pen.stroke();
    if (polygon !== corners[0]) { pen.globalAlpha = 0.12; pen.fillStyle = css("--text"); pen.fill(); pen.globalAlpha = 1; }
  }
  pen.globalAlpha = 0.3;
  line(pen, xs.map((x, i) => (rows.step[i] < 0 ? null : x)), ys, at, "--accent", 1.2); // it is placed anew between episodes
  pen.globalAlpha = 1;
  drawPath(pen, rows, cursor, at);
  scaleBar(pen, scale, high);
  const view = { left: midX - wide / 2 / scale, right: midX + wide / 2 / scale, bottom: midY - (high / 2 + 14) / scale, top: midY + (high / 2 - 14) / scale };
  const [x, y] = [xs[cursor], ys[cursor]];
  if (!known(x) || !known(y)) return view;
  const heading = rows.heading ? rows.heading[0][cursor] : null;
  if (rows.scan) drawScan(pen, rows.scan[cursor], x, y, heading || 0, at);
  drawRobot(pen, at(x, y), heading, (about.radius_m || 0) * scale);
  return view;
}

// Fill the places at which no cost is billed; a stretch of free cells in a row is one piece.
function drawGround(pen, ground, at) {
  const rows = ground.free.length, cells = ground.free[0].length;
  const x = (cell) => at(ground.left + (ground.right - ground.left) * cell / cells, 0)[0];
  const y = (row) => at(0, ground.bottom + (ground.top - ground.bottom) * row / rows)[1];
  pen.fillStyle = css("--active");
  pen.globalAlpha = 0.25;
  pen.beginPath();
  ground.free.forEach((row, k) => {
    for (const { 0: stretch, index } of row.matchAll(/1+/g)) pen.rect(x(index), y(k + 1), x(index + stretch.length) - x(index), y(k) - y(k + 1));
  });
  pen.fill();
  pen.globalAlpha = 1;
}

function drawPath(pen, rows, cursor, at) {
  const [xs, ys] = rows.position;
  const paid = rows.costs.length ? xs.map((_, i) => rows.costs.some((cost) => cost[i] > 0)) : [];
  const begin = rows.episode.indexOf(rows.episode[cursor]);
  for (const wanted of [false, true]) {
    pen.strokeStyle = css(wanted ? "--paid" : "--accent");
    pen.lineWidth = 2;
    pen.beginPath();
    for (let i = begin + 1; i <= cursor; i++) {
      if (Boolean(paid[i]) !== wanted || ![xs[i], ys[i], xs[i - 1], ys[i - 1]].every(known)) continue;
      pen.moveTo(...at(xs[i - 1], ys[i - 1]));
      pen.lineTo(...at(xs[i], ys[i]));
    }
    pen.stroke();
  }
}

function drawScan(pen, ranges, x, y, heading, at) {
  pen.fillStyle = css("--scan");
  ranges.forEach((range, k) => {
    if (!known(range)) return;
    const angle = heading + (2 * Math.PI * k) / ranges.length;
    const [px, py] = at(x + range * Math.cos(angle), y + range * Math.sin(angle));
    pen.fillRect(px - 1.5, py - 1.5, 3, 3);
  });
}

function drawRobot(pen, [x, y], heading, radius) {
  pen.strokeStyle = css("--text");
  pen.fillStyle = css("--card");
  pen.lineWidth = 1.5;
  if (radius > 3) { pen.beginPath(); pen.arc(x, y, Math.min(radius, 1e4), 0, 2 * Math.PI); pen.stroke(); }
  pen.beginPath();
  if (known(heading)) {
    for (const [turn, size] of [[0, 10], [2.5, 8], [-2.5, 8]]) pen.lineTo(x + size * Math.cos(heading + turn), y - size * Math.sin(heading + turn));
    pen.closePath();
  } else pen.arc(x, y, 5, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
}

function scaleBar(pen, scale, high) {
  const wanted = 80 / scale, power = 10 ** Math.floor(Math.log10(wanted));
  const length = [5, 2, 1].map((k) => k * power).find((each) => each <= wanted) || power;
  pen.strokeStyle = pen.fillStyle = css("--quiet");
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(10, high - 8);
  pen.lineTo(10 + length * scale, high - 8);
  pen.stroke();
  pen.fillText(short(length) + " m", 10, high - 13);
}

// Draw the monitor's state over the rows; the taller, the less the robot may do.
function drawStrip(canvas, rows, cursor) {
  const { pen, wide, high } = surface(canvas);
  const count = rows.state.length, step = wide / Math.max(count, 1);
  for (let i = 0, end; i < count; i = end) { // a stretch of one state is one piece
    for (end = i + 1; end < count && rows.state[end] === rows.state[i]; end++);
    const tall = high * (HEIGHTS[rows.state[i]] || 1);
    pen.fillStyle = css(SHADES[rows.state[i]] || "--stopped");
    pen.fillRect(i * step, high - tall, Math.max((end - i) * step, 1), tall);
  }
  pen.fillStyle = css("--text");
  pen.fillRect(Math.min((cursor + 0.5) * step, wide - 2), 0, 2, high);
}
