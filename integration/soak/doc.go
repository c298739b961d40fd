// Soak runs the built binary under a mixed load for half an hour, breaks it at
// random, and judges whether callers lost anything that they need not have lost.
// README.md says what is judged, and what a run has shown.
package main
