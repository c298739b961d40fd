-- The run's figures on one line; durations in microseconds.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\nresult %d %d %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
