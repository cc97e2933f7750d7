//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"whale/fabric/verbs"
)

// fabricCmd is `whale fabric`.
func fabricCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "fabric", Short: "What can connect the nodes on this machine"}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List what can connect nodes, the RDMA devices among it, and what each can do",
		Long: `Lists the ways to connect nodes, and says of each whether this machine and this program have it, and why not. Of each RDMA
device it lists what the operations of the fabric become on it: with FLUSH of the device, writes become durable in the
peer's persistent memory by the device alone; without, a READ does that if --direct-write may be declared (docs/rdma.md).`,
		Example: "  whale fabric list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := verbs.Devices()
			listFabric(cmd.OutOrStdout(), devices, err)
			return nil
		},
	})
	return cmd
}

func listFabric(w io.Writer, devices []verbs.Device, err error) {
	fmt.Fprintln(w, "shm    yes: shared memory, between processes of one machine")
	fmt.Fprintln(w, "tcp    yes: between machines; a thread of the target's process stands in for the network card")
	switch {
	case errors.Is(err, verbs.ErrNotBuilt):
		fmt.Fprintln(w, "verbs  no: "+strings.TrimPrefix(err.Error(), "verbs: "))
		return
	case err != nil:
		fmt.Fprintln(w, "verbs  no: "+strings.TrimPrefix(err.Error(), "verbs: "))
		return
	case len(devices) == 0:
		fmt.Fprintln(w, "verbs  no: this machine has no RDMA device (rdma link); soft-RoCE makes one of an Ethernet interface: rdma link add rxe0 type rxe netdev eth0")
		return
	}
	fmt.Fprintln(w, "verbs  yes: RDMA, by these devices:")
	for i := range devices {
		listDevice(w, &devices[i])
	}
}

func listDevice(w io.Writer, d *verbs.Device) {
	fmt.Fprintf(w, "\n  %s  vendor %#x, part %d, firmware %q, %d work requests a connection\n", d.Name, d.Vendor, d.Part, d.Firmware, d.QueueDepth)
	if d.Err != nil {
		fmt.Fprintf(w, "    cannot be used: %v\n", d.Err)
		return
	}
	for _, f := range []struct {
		what, with, without string
		has                 bool
	}{
		{"durable flush", "FLUSH", "READ, if the peer has --direct-write, or memory that needs no flush; otherwise refused", d.FlushDurable},
		{"visible flush", "FLUSH", "READ", d.FlushVisible},
		{"8-byte write", "ATOMIC WRITE", "aligned WRITE", d.AtomicWrite},
		{"atomics", "CmpSwap, FetchAdd", "refused", d.Atomics},
	} {
		by := f.without
		if f.has {
			by = f.with
		}
		fmt.Fprintf(w, "    %-14s %s\n", f.what, by)
	}
	for _, p := range d.Ports {
		state := "active"
		if !p.Active {
			state = "not active: no link, interface down, or no subnet manager"
		}
		fmt.Fprintf(w, "    port %d (%s) is %s\n", p.Number, p.Link, state)
		for _, g := range p.GIDs {
			use := ""
			if p.Active && (g.Type == "RoCE v2" || p.Link == "InfiniBand" && g.Index == 0) {
				use = "  usable"
				if p.Link == "Ethernet" {
					use = "  --fabric-listen " + g.Addr + ":PORT"
				}
			}
			fmt.Fprintf(w, "      GID %d  %-8s %s%s\n", g.Index, g.Type, g.Addr, use)
		}
	}
}
