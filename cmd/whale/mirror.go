//go:build linux

package main

import "github.com/spf13/cobra"

// mirrorCmd is `whale mirror`.
func mirrorCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Mirror regions of persistent memory, and measure what that costs",
		Example: `  whale mirror compare
  whale mirror compare --workload transact --sensitivity`,
	}
	cmd.AddCommand(mirrorServeCmd(), mirrorBenchCmd(), mirrorCompareCmd(), mirrorParamsCmd(), mirrorRecordCmd(), mirrorEpochsCmd())
	return cmd
}
