// Package resident keeps small what counts as a process's memory: what a burst has left in
// its heap, and what of the program's own file was needed.
//
// The Go runtime and the packages' initialization touch tables all over the executable,
// and the kernel maps sixteen pages around each that is touched: of a file of 65 MB some 38 MB
// are in a process that has just started, and few of them are needed again. They are
// counted as its RSS, and the kernel takes mapped pages back late.
package resident

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Release takes the pages of the executable's code and constants out of this process's
// memory. What is used again comes back by itself from the page cache, at a few
// microseconds for sixteen pages. Breakpoints of a debugger in them are lost.
func Release() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	moved, err := positionIndependent(exe)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(maps) {
		var from, to uintptr
		var may, offset, device, inode, file string
		if n, _ := fmt.Sscanf(string(line), "%x-%x %s %s %s %s %s", &from, &to, &may, &offset, &device, &inode, &file); n < 7 || file != exe || len(may) < 3 || may[1] == 'w' {
			continue // not the executable's, or what was written to it would be lost
		}
		if moved && may[2] != 'x' {
			continue // its addresses were written into it, and then it was made read-only
		}
		// No slice of it is made for unix.Madvise: nobody owns this memory.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			err = errors.Join(err, fmt.Errorf("madvise: %w", errno))
		}
	}
	return err
}

// positionIndependent reports whether the loader writes to parts of an executable that are
// read-only afterwards: its type in the ELF header is not ET_EXEC.
func positionIndependent(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var head [18]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false, err
	}
	const executable = 2 // ET_EXEC
	return binary.NativeEndian.Uint16(head[16:]) != executable, nil
}
