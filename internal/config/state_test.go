package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStateDirectoryIsHeldByOneProcessOfAKind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	if err := CheckState(dir, GatewayRole); err != nil {
		t.Errorf("one that can be made: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checking made the directory: %v", err)
	}
	release, err := ClaimState(dir, GatewayRole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ClaimState(dir, GatewayRole); !errors.Is(err, ErrStateInUse) || !strings.Contains(err.Error(), "`state:`") {
		t.Errorf("a second gateway: %v", err)
	}
	if err := CheckState(dir, GatewayRole); !errors.Is(err, ErrStateInUse) {
		t.Errorf("checking: %v", err)
	}
	other, err := ClaimState(dir, SidecarRole)
	if err != nil {
		t.Errorf("a sidecar beside it: %v", err)
	}
	if err := errors.Join(release(), other()); err != nil {
		t.Fatal(err)
	}
	if release, err = ClaimState(dir, GatewayRole); err != nil {
		t.Fatalf("after its release: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestAStateDirectoryThatCannotBeMadeSaysWhatToWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(t.TempDir(), "dangling")
	if err := os.Symlink(filepath.Join(dangling, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/isthmus", "/proc/isthmus/below", dangling, filepath.Join(dangling, "below")} {
		_, err := ClaimState(dir, GatewayRole)
		if err == nil || !strings.Contains(err.Error(), "`state:`") {
			t.Errorf("claim %s: %v", dir, err)
		}
		if err := CheckState(dir, GatewayRole); err == nil || !strings.Contains(err.Error(), "`state:`") {
			t.Errorf("check %s: %v", dir, err)
		}
	}
}
