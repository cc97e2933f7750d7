//go:build linux

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"whale/internal/certs"
)

// certCmd is `whale cert`.
func certCmd() *cobra.Command {
	var dir string
	var names []string
	cmd := &cobra.Command{
		Use:   "cert --dir DIR --host NAME[,...]",
		Short: "Make certificates for TLS: the cluster's own authority, and one for a node",
		Long: `Makes what TLS needs: in the folder --dir, an authority of the cluster's own (` + certs.CACert + `, ` + certs.CAKey + `), if there is none yet, and
a certificate for one node (` + certs.NodeCert + `, ` + certs.NodeKey + `) that is good for the names by which clients and other nodes reach it.

All nodes need certificates of the same authority: for each further node, copy ` + certs.CACert + ` and ` + certs.CAKey + ` to another folder and
run it there. Clients need one, too, for TLS is mutual. Whoever has ` + certs.CAKey + ` can make certificates that the cluster
trusts: nodes do not need it, so keep it elsewhere. Files that are there are never overwritten.`,
		Example: `  whale cert --dir certs --host localhost,127.0.0.1
  whale serve --tls-cert certs/node.crt --tls-key certs/node.key --tls-ca certs/ca.crt ...
  redis-cli --tls --cert certs/node.crt --key certs/node.key --cacert certs/ca.crt -p 7001 PING`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := certs.Create(dir, names)
			if err != nil {
				return fmt.Errorf("cert: %w", err)
			}
			out := cmd.OutOrStdout()
			for _, path := range made {
				fmt.Fprintln(out, "made", path)
			}
			fmt.Fprintf(out, "use them: whale serve --tls-cert %s --tls-key %s --tls-ca %s ...\n",
				filepath.Join(dir, certs.NodeCert), filepath.Join(dir, certs.NodeKey), filepath.Join(dir, certs.CACert))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for the files; created if it is missing (required)")
	cmd.Flags().StringSliceVar(&names, "host", nil, "host names and IP addresses by which the node is reached (required)")
	cmd.MarkFlagRequired("dir")
	cmd.MarkFlagRequired("host")
	return cmd
}
