// Package sidecar assembles the process that stands beside one program and
// speaks for it: [Sidecar] knows all the parts and reads as their start order.
package sidecar
