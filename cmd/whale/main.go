//go:build linux

// Command whale is a strongly consistent, replicated key-value store that serves Redis clients at every node.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"whale/internal/node"
)

func main() {
	if err := rootCmd().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "whale:", err)
		var permanent *node.PermanentError
		if errors.As(err, &permanent) {
			os.Exit(node.ExitPermanent)
		}
		os.Exit(1)
	}
}

func rootCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whale",
		Short: "A strongly consistent, replicated key-value store for Redis clients",
		Long: `Whale keeps a copy of all data on every node and answers Redis clients at each of them: a write is acknowledged after
one round trip, and from then on every node answers it.`,
		Example: `  whale dev                               a cluster of three nodes on this machine, to try it
  redis-cli -p 7001 SET greeting hello
  redis-cli -p 7003 GET greeting`,
		SilenceErrors: true, // main prints them
		SilenceUsage:  true,
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	cmd.AddCommand(devCmd(), serveCmd(), configCmd(), statusCmd(), doctorCmd(), fabricCmd(), benchCmd(), mirrorCmd(), simCmd(), certCmd(), versionCmd())
	return cmd
}
