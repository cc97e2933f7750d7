//go:build linux

package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"whale/workload/whisper"
)

func mirrorEpochsCmd() *cobra.Command {
	var name string
	var transactions int
	var seed uint64
	var names []string
	for _, w := range whisper.Workloads() {
		names = append(names, w.Name())
	}
	cmd := &cobra.Command{
		Use:   "epochs",
		Short: "Count what the transactions of the WHISPER applications look like",
		Long: `Runs applications of the WHISPER suite without mirrors, checks their data, and prints what was counted of their transactions, and
below each line what was measured of the original (recalled: from memory of the paper). An epoch is what is written between
two barriers; a line that several epochs write counts in each, and "times written" says how often that is.`,
		Example: `  whale mirror epochs
  whale mirror epochs --workload hashmap --transactions 10000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if transactions < 1 {
				return errors.New("--transactions counts: want 1 or more")
			}
			chosen := whisper.Applications
			if name != "all" {
				a, err := whisper.Find(name)
				if err != nil {
					return err
				}
				chosen = []whisper.Application{a}
			}
			bar := newBar()
			progress := bar.count()
			var rows []whisper.Row
			for i, a := range chosen {
				s, err := whisper.Count(a.New(), transactions, seed)
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					bar.clear()
					return err
				}
				rows = append(rows, whisper.Row{Application: a, Counted: s})
				if progress != nil {
					progress(i+1, len(chosen))
				}
			}
			bar.clear()
			return whisper.WriteTable(cmd.OutOrStdout(), rows)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&name, "workload", "all", "all, or one of "+strings.Join(names, ", "))
	fl.IntVar(&transactions, "transactions", 1000, "transactions of each thread of an application")
	fl.Uint64Var(&seed, "seed", 1, "seed of everything that varies")
	return cmd
}
