// Package status is what a gateway and a sidecar answer on /status, and what
// `isthmus status -o json` prints. The types are values: who answers makes a new
// one for every question. Fields are only ever added.
package status
