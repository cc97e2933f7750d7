//go:build linux

// Command lab proves Whale's parts for RDMA and persistent memory on a machine that has neither: it boots a virtual machine
// with the kernel's soft-RoCE and emulated NVDIMMs, runs tests and a cluster in it, and reports. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/lab/steps"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		var impossible *impossibleError
		if errors.As(err, &impossible) {
			os.Exit(exitImpossible)
		}
		os.Exit(1)
	}
}

// exitImpossible says that nothing was tried: this machine lacks a tool, or the packages cannot be had.
const exitImpossible = 3

type impossibleError struct{ error }

func (e *impossibleError) Unwrap() error { return e.error }

// options are the command's flags.
type options struct {
	only    []string
	cache   string
	mirror  string
	update  bool
	verbose bool
	limit   time.Duration
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run Whale on soft-RoCE and emulated persistent memory, in a virtual machine",
		Long: `Boots a virtual machine (QEMU, by emulation) with the kernel's soft-RoCE and emulated NVDIMMs, runs tests and a cluster
of Whale in it, and reports. The first run fetches about 190 MB of Debian packages from where this machine's apt gets its
own; nothing is installed, and nothing is left but the cache.

Exit status: 0, all steps passed; 1, some did not; 3, nothing was tried, for a tool or the packages cannot be had.

Steps:
` + stepList(),
		Example: `  go run ./lab                          everything
  go run ./lab --only pmem,verbs        two steps
  go run ./lab --only verbs --verbose   with all that its programs print`,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.only, "only", nil, "steps to run, by name (default: all)")
	f.StringVar(&o.cache, "cache", "", "folder for what the packages hold (default: whale-lab in the user's cache folder)")
	f.StringVar(&o.mirror, "mirror", "", "address of a mirror of Debian (default: the one that this machine's apt uses)")
	f.BoolVar(&o.update, "update", false, "fetch the newest packages, although the cache has some")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print what the programs in the guest print, not only when a step fails")
	f.DurationVar(&o.limit, "limit", 20*time.Minute, "end the virtual machine after this time")
	return cmd
}

func stepList() string {
	var b strings.Builder
	for _, s := range steps.All {
		fmt.Fprintf(&b, "  %-12s %s\n", s.Name, s.What)
	}
	return strings.TrimRight(b.String(), "\n")
}

// choose finds the steps by name. The first one makes what all others use.
func choose(only []string) ([]steps.Step, error) {
	if len(only) == 0 {
		return steps.All, nil
	}
	chosen := steps.All[:1:1]
	for _, name := range only {
		s, ok := steps.Find(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("--only %s: there is no such step; there are:\n%s", name, stepList())
		case s.Name != steps.All[0].Name:
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

func run(ctx context.Context, o options) error {
	wanted, err := choose(o.only)
	if err != nil {
		return err
	}
	if runtime.GOARCH != "amd64" {
		return &impossibleError{fmt.Errorf("the guest's programs are built for amd64 with this machine's compiler, and this machine is %s", runtime.GOARCH)}
	}
	needed := tools
	for _, s := range wanted {
		if s.Verbs {
			needed = append(needed[:len(tools):len(tools)], compiler)
		}
	}
	if err := missing(needed); err != nil {
		return &impossibleError{err}
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w: give a folder with --cache", err)
		}
		o.cache = filepath.Join(dir, "whale-lab")
	}
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return err
	}
	t, err := openTree(ctx, o.cache, o.mirror, o.update)
	if err != nil {
		return explain(ctx, err)
	}
	dir, err := os.MkdirTemp("", "whale-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := build(ctx, t, dir, wanted)
	if err != nil {
		return explain(ctx, err)
	}
	m := &machine{dir: dir, kernel: t.vmlinuz(), initramfs: filepath.Join(dir, "initramfs"), run: filepath.Base(dir)}
	plan := steps.Plan{Run: m.run, Modules: t.Modules, Devices: memories}
	for _, s := range wanted {
		plan.Steps = append(plan.Steps, s.Name)
	}
	if err := writeInitramfs(m.initramfs, t, built, plan); err != nil {
		return err
	}
	fmt.Printf("kernel %s, rdma-core %s\n", t.version("linux-binary-"), t.version("libibverbs1"))
	limited, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("the virtual machine was ended after %v (--limit)", o.limit))
	defer cancel()
	r := newReport(os.Stdout, wanted, o.verbose)
	console, err := m.boot(limited, r.event)
	return r.finish(console, explain(ctx, err))
}

// explain says so when it was the user who ended the lab.
func explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; nothing is left running")
	}
	return err
}
