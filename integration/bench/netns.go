package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/isthmus-mesh/isthmus/internal/process"
	"golang.org/x/sys/unix"
)

// newNetwork makes a network namespace that has loopback only, and routes
// everything there: what a program dials is captured on its way, or refused. It
// is gone with the last process in it and the file.
func newNetwork(ctx context.Context, s *process.Spawner, ip string) (netns *os.File, err error) {
	err = s.Do(func() error {
		ours, err := os.Open(threadNetwork)
		if err != nil {
			return err
		}
		defer ours.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if netns, err = os.Open(threadNetwork); err == nil {
			err = withoutIPv6()
		}
		return errors.Join(err, unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET))
	})
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"route", "add", "default", "dev", "lo", "src", "127.0.0.1"},
	} {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, ip, args...)
		cmd.Stderr = &out
		err := s.Start(cmd, place{cpu: anyCPU, netns: netns}.place())
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			netns.Close()
			return nil, fmt.Errorf("ip %v: %w\n%s", args, err, bytes.TrimSpace(out.Bytes()))
		}
	}
	return netns, nil
}

// threadNetwork is the network namespace of the thread that opens it.
const threadNetwork = "/proc/thread-self/ns/net"

// withoutIPv6 has every contender dial the same kind of address, whatever the
// resolver of its load prefers.
func withoutIPv6() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the kernel has none
	}
	return err
}

// inNetwork calls f on a locked thread while that is in a network namespace.
func inNetwork(netns *os.File, f func() error) error {
	ours, err := os.Open(threadNetwork)
	if err != nil {
		return err
	}
	defer ours.Close()
	if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return errors.Join(f(), unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET))
}
