package netns

import (
	"context"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// Command is what an [Agent] is asked to run.
type Command struct {
	Argv, Env []string
	Input     string
}

// Run runs a program and waits for its end.
func (*Agent) Run(c Command, ran *Ran) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin = strings.NewReader(c.Input)
	out, err := cmd.CombinedOutput()
	ran.Output = string(out)
	if err != nil {
		ran.Err = err.Error()
	}
	return nil
}

// captured is a program beside a sidecar that captures it.
type captured struct {
	*process.Process
	agent *rpc.Client
}

// capture starts a sidecar on h, named and with the identity shop/NAME, and through
// it a program that runs other programs. settings are those of interception; more is
// what else the sidecar's configuration says.
func (h *host) capture(t *testing.T, name, settings, more string) *captured {
	t.Helper()
	argv, err := h.sidecar(name, intercepting(name, settings)+more)
	if err != nil {
		t.Fatal(err)
	}
	socket := h.w.path(name, "agent")
	p, err := h.start(name, append(argv, "--", self, "program", "agent", socket)...)
	if err != nil {
		t.Fatal(err)
	}
	c := &captured{Process: p}
	err = harness.Eventually(func() (err error) {
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		c.agent, err = rpc.Dial("unix", socket)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.agent.Close() })
	return c
}

// intercepting is the part of a sidecar's configuration that says how it captures.
func intercepting(name, settings string) string {
	return fmt.Sprintf("interception: {name: %s, %s}\n", hosts.InterceptionName(name), settings)
}

// run has the program run argv, which must succeed, and returns what that prints.
func (c *captured) run(t *testing.T, cmd Command) string {
	t.Helper()
	var ran Ran
	if err := c.agent.Call("Agent.Run", cmd, &ran); err != nil {
		t.Fatalf("ask the program to run %v: %v", cmd.Argv, err)
	}
	if ran.Err != "" {
		t.Fatalf("%v: %v\n%s", cmd.Argv, ran.Err, ran.Output)
	}
	return ran.Output
}
