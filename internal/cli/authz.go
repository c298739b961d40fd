package cli

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// authzFlags are those of `isthmus authz`.
type authzFlags struct {
	admin, resources, trustDomain, cluster string
	out                                    output
}

// Authz is `isthmus authz`.
func Authz() *cobra.Command {
	var f authzFlags
	cmd := &cobra.Command{
		Use:   "authz CALLER SERVICE [METHOD PATH]",
		Short: "Say whether a caller may call a service, why, and what to write",
		Long: `Asks a gateway of the service's cluster what its policies make of a call, without
making it. With --resources the policies of a directory are asked instead, before
they are put in force; what sidecars say is not known then.

CALLER is namespace/account, cluster/namespace/account, a SPIFFE ID, or anonymous.
The certificate of the caller's cluster is taken to speak for its namespace. SERVICE is
namespace/name or a mesh name, with :port when that is not the first. Header fields
are taken to be absent.

Exits with 0 when the call is allowed and 1 when it is not.`,
		Example: `  isthmus authz front/web shop/orders
  isthmus authz west/front/web orders.shop.mesh:80 GET /orders/7
  isthmus authz front/web shop/orders --resources ./resources`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 4 {
				return usageError{fmt.Errorf("write CALLER SERVICE, such as front/web shop/orders, and METHOD PATH or neither")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = append(args, "", "")
			answer, err := f.ask(cmd, args[0], args[1], args[2], args[3])
			if err != nil {
				return err
			}
			if f.out.json() {
				err = writeJSON(cmd.OutOrStdout(), answer)
			} else {
				err = writeAuthorization(newTable(cmd.OutOrStdout()), answer)
			}
			if err == nil && answer.Decision != "allowed" {
				err = silentError{errors.New(answer.Why)}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&f.admin, "admin", "127.0.0.1:15000", "admin address of a gateway of the service's cluster")
	cmd.Flags().StringVar(&f.resources, "resources", "", "ask the policies of this directory rather than a gateway")
	cmd.Flags().StringVar(&f.cluster, "cluster", "here", "the service's cluster, with --resources")
	cmd.Flags().StringVar(&f.trustDomain, "trust-domain", "mesh.example", "the service's trust domain, with --resources")
	f.out.flag(cmd)
	return cmd
}

func (f *authzFlags) ask(cmd *cobra.Command, caller, service, method, path string) (*status.Authorization, error) {
	// What is written wrongly is so wherever it is asked.
	q, err := authorize.ParseQuestion(caller, service, method, path, f.trustDomain, mesh.ClusterName(f.cluster))
	if err != nil {
		return nil, usageError{err}
	}
	if f.resources != "" {
		return f.askResources(q)
	}
	if _, _, err := net.SplitHostPort(f.admin); err != nil {
		return nil, usageError{fmt.Errorf("--admin %s: write host:port", f.admin)}
	}
	answer, err := status.AskAuthorization(cmd.Context(), f.admin, caller, service, method, path)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", f.admin, err)
	}
	return answer, nil
}

// askResources answers by a directory of resource files.
func (f *authzFlags) askResources(q *authorize.Question) (*status.Authorization, error) {
	if err := q.In(mesh.ClusterName(f.cluster)); err != nil {
		return nil, usageError{err}
	}
	all, err := file.Check(f.resources)
	if err != nil {
		return nil, err
	}
	var exported []uint16
	protocol, plain := mesh.HTTP, false
	for _, d := range all.Services {
		if d.Service.Name != q.To.Service {
			continue
		}
		for _, p := range d.Service.Ports {
			if q.To.Port == 0 {
				q.To.Port = p.Port
			}
			if p.Port == q.To.Port {
				protocol, plain = p.Protocol, len(p.Endpoints) > 0
			}
		}
		if d.Service.Export != nil && *d.Service.Export {
			exported = append(exported, q.To.Port)
		}
	}
	if q.To.Port == 0 {
		return nil, usageError{fmt.Errorf("%s has no ports in %s: write the port, such as %s:80", q.To.Service, f.resources, q.To.Service)}
	}
	a, err := policy.Compile(policy.SetOf(q.To.Service, exported, all.Policies), f.trustDomain, mesh.ClusterName(f.cluster))
	if err != nil {
		return nil, err
	}
	return q.Answer(a, mesh.ClusterName(f.cluster), protocol == mesh.TCP, plain), nil
}

func writeAuthorization(t *table, a *status.Authorization) error {
	what := a.Service.String()
	if a.Method != "" {
		what += " " + a.Method + " " + a.Path
	}
	t.row("caller", a.Caller)
	t.row("service", what)
	t.row("decision", a.Decision+", by the "+a.Where)
	t.row("why", a.Why)
	if a.DryRun != "" {
		t.row("dry run", a.DryRun)
	}
	if a.Note != "" {
		t.row("note", a.Note)
	}
	return t.flush()
}
