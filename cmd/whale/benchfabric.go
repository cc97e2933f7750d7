//go:build linux

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/internal/eval"
	"whale/internal/loopback"
)

// benchFabricCmd is `whale bench fabric`.
func benchFabricCmd() *cobra.Command {
	var b eval.FabricBench
	cmd := &cobra.Command{
		Use:   "fabric",
		Short: "Measure each operation of the fabric on each provider",
		Long: `Measures what nodes do in each other's memory, between two processes on this machine: the latency of one operation at
a time, from posting it to its completion, and the throughput of batches of 64, of which the last operation reports its
completion, with four batches under way. The initiator parks when it has nothing to do, as a node does.

A Write over tcp completes when it has landed; over shm the initiator copies by itself, and it completes at once.

--provider verbs measures RDMA on the first active device, both ends on this machine: the packets turn around inside the card.
perftest's ib_read_lat and ib_atomic_lat measure the same latency, ib_write_lat and ib_send_lat half of a round trip of two;
OPS/s and MB/s are the message rate and the bandwidth of ib_write_bw and its like.`,
		Example: `  whale bench fabric
  whale bench fabric --provider tcp --duration 5s
  whale bench fabric --provider verbs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			self, err := os.Executable()
			if err != nil {
				return err
			}
			b.Target = []string{self, "bench", "fabric", "target"}
			rows, err := b.Run(ctx)
			if werr := eval.WriteFabric(cmd.OutOrStdout(), rows); err == nil {
				err = werr
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&b.Providers, "provider", loopback.Providers, "what to measure: shm, tcp, verbs")
	cmd.Flags().DurationVar(&b.Duration, "duration", time.Second, "length of each run; there are two for each operation")
	cmd.Flags().StringVar(&b.Dir, "dir", "", "folder below which a temporary one is made for the memory (default: the system's, for verbs /dev/shm)")
	cmd.AddCommand(&cobra.Command{
		Use: "target PROVIDER DIR", Short: "The second process of bench fabric", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eval.FabricTarget(cmd.Context(), args[0], args[1], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return cmd
}
