// Package health adds to the services of another source which of their
// endpoints answer, by asking them again and again.
package health
