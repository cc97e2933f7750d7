//go:build linux

package main

import (
	"os"

	"github.com/spf13/cobra"

	"whale/internal/config"
)

func configCmd() *cobra.Command {
	var s config.Settings
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective settings of a node",
		Long: `Prints every setting that whale serve would use, with what it means: from the flags, the environment and the file that
--config names. The output is such a file itself.`,
		Example: `  whale config > node.toml
  whale config --config node.toml --threads 4`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.Load(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			return s.Write(cmd.OutOrStdout())
		},
	}
	s.Bind(cmd.Flags())
	return cmd
}
