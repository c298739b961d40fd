package file

import "time"

const (
	// quiet is how long the directory must be still before it is read: an
	// editor truncates, writes and renames within milliseconds.
	quiet = 100 * time.Millisecond
	// impatience: a directory that is never still is read this often anyway.
	impatience = time.Second
	// poll finds what the kernel does not tell: network file systems, a
	// directory replaced by another behind a symbolic link.
	poll = 2 * time.Second

	// stampAge is how old the last change of a file is before the same time and
	// size mean the same content: FAT counts in two seconds.
	stampAge = 3 * time.Second

	maxFiles    = 1000   // read of one directory
	maxServices = 10_000 // of one directory
	maxRoutes   = 10_000 // of one directory
)
