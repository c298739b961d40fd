package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
)

// canCaptureHere tells whether flows with interception run: always in CI.
func canCaptureHere(t *testing.T) bool {
	t.Helper()
	tools, err := findTools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err = canCapture(&tools); err == nil {
		return true
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Log("without interception:", err)
	return false
}

func TestAnInterruptedRunLeavesNothingCaptured(t *testing.T) {
	opts := smokeOptions(t)
	if !canCaptureHere(t) {
		t.Skip("nothing can be captured here")
	}
	opts.flows, opts.isthmus = []string{"connect"}, isthmus(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := run(ctx, opts, cancelAt{"connect: start nftables", cancel}); !errors.Is(err, context.Canceled) { // eBPF is in place
		t.Errorf("%v, want that it was canceled", err)
	}
	nothingRuns(t)
	nothingCaptures(t)
}

// nothingCaptures checks that this process has left no hooks and no cgroup.
func nothingCaptures(t *testing.T) {
	t.Helper()
	ours := fmt.Sprintf("bench-%d-", os.Getpid())
	pinned, err := interception.Attached("")
	if err != nil {
		t.Error(err)
	}
	for _, name := range pinned {
		if strings.HasPrefix(name, ours) {
			t.Errorf("still attached: %s", name)
		}
	}
	root, err := interception.CgroupRoot()
	if errors.Is(err, interception.ErrNoCgroup2) {
		return
	}
	left, globErr := filepath.Glob(filepath.Join(root, config.CgroupOf(ours+"*")))
	if err != nil || globErr != nil || len(left) > 0 {
		t.Errorf("cgroups that are left: %v, %v, %v", left, err, globErr)
	}
}
