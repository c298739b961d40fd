package cli

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"
)

// adminVariable has the address that --admin has when it is not given: in a container of ours
// only one process can be meant.
const adminVariable = "ISTHMUS_ADMIN"

// adminFlag adds --admin, the process that is asked. Default: a gateway's.
func adminFlag(cmd *cobra.Command, address *string, usage string) {
	cmd.Flags().StringVar(address, "admin", cmp.Or(os.Getenv(adminVariable), "127.0.0.1:15000"), usage+" ("+adminVariable+")")
}
