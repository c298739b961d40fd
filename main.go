// Isthmus is a multi-cluster service mesh: `isthmus gateway` joins clusters,
// `isthmus sidecar` stands beside a program, and the other commands show what
// they do. Run `isthmus help`.
package main

import (
	"os"

	"github.com/isthmus-mesh/isthmus/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
