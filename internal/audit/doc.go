// Package audit writes down what this process decided about others: one stream,
// one JSON object a line, in a file of its own.
//
//	{"time":"2026-11-26T16:40:01.2Z","kind":"call","decision":"refused","who":"spiffe://mesh/cluster/east/ns/web/sa/shop",
//	 "from":"10.0.0.7","what":"shop/orders GET","example":"/","why":"AuthorizationPolicy shop/orders-callers"}
//
// What repeats itself within a minute is written once more, with how often (again) and what
// differed last (example): a flood of refused calls, each of another path, must not
// fill the disk. Beyond 1024 different events a minute they are counted only, by kind and
// decision. Of granted calls, which are written by choice, each is a line, and equal ones of
// a second are two. Nobody waits for the disk: events
// wait in a bounded queue, and what finds it full is counted and said in a line of
// its own. The file is opened again when its name no longer leads to it, so that it
// can be rotated by renaming it.
package audit
