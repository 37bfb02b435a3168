// The strip above the time slider: vehicles on the road, events, and decisions of the selected agent.

function drawStrip(app, canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  const paint = prepared(canvas, width, height), { episode, colours } = app;
  const x = (time) => (time / app.end) * width, most = Math.max(1, ...app.episodes.map((one) => Math.max(...one.vehicles)));
  canvas.style.width = canvas.style.height = "";
  paint.fillStyle = colours.line;
  paint.beginPath();
  paint.moveTo(0, height);
  for (let i = 0; i < episode.frames; i += Math.max(1, Math.floor(episode.frames / width))) {
    paint.lineTo(x(i * episode.frame), height - (height - 6) * episode.vehicles[i] / most);
  }
  paint.lineTo(x(episode.end), height);
  paint.fill();
  paint.fillStyle = colours.event;
  for (const event of app.said.events) paint.fillRect(x(event.begin), 0, Math.max(2, x(event.end) - x(event.begin)), 4);
  if (app.agent === null) return;
  paint.fillStyle = app.colourOf(app.agent);
  for (const decision of episode.decisions[app.agent]) paint.fillRect(x(decision.at) - 1, 8, 2, height - 8);
}
