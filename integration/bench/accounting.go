package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, 100 on every Linux.
const tick = 10 * time.Millisecond

// cpuOf returns the CPU time that a process, its descendants, and the children
// it has waited for used so far. The kernel counts the work of a packet's
// delivery over loopback with whoever sent it; that is the same for everybody.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, err
	}
	total, err := parseStat(b)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", procFile(pid, "stat"), err)
	}
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children {
		cpu, err := cpuOf(child)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may have ended since
			return 0, err
		}
		total += cpu
	}
	return total, nil
}

// parseStat adds up utime, stime, cutime and cstime of /proc/PID/stat
// (proc_pid_stat(5)). The command's name, in parentheses, may hold anything.
func parseStat(b []byte) (time.Duration, error) {
	const utime, cstime = 14 - 3, 17 - 3 // counted from the field behind the name
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= cstime {
		return 0, fmt.Errorf("%d fields, want more than %d", len(fields), cstime)
	}
	var ticks int64
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// childrenOf returns the living children of all threads of a process.
func childrenOf(pid int) ([]int, error) {
	lists, err := filepath.Glob(procFile(pid, "task/*/children"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", list, err)
			}
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// rssOf returns the resident memory of a process and its descendants in bytes.
// Pages that they share are counted for each.
func rssOf(pid int) (uint64, error) {
	b, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nVmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("%s: no VmRSS: the process has ended", procFile(pid, "status"))
	}
	kib, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: VmRSS: %w", procFile(pid, "status"), err)
	}
	total := kib << 10
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children {
		rss, err := rssOf(child)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		total += rss
	}
	return total, nil
}

// machineCPU returns the time that all cores together spent on anything, the
// hypervisor's other guests included.
func machineCPU() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat: %d fields in %q, want 9", len(fields), line)
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
