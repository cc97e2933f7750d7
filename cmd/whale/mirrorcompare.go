//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"whale/internal/mirroreval"
	"whale/internal/node"
	"whale/pmem"
	"whale/timing"
	"whale/workload"
	"whale/workload/trace"
	"whale/workload/transact"
)

// workloadFlags choose a workload.
type workloadFlags struct {
	name, trace  string
	threads      int
	transactions int
	seed         uint64
	think        time.Duration
	transact     transact.Params
}

func (f *workloadFlags) bind(fl *pflag.FlagSet) {
	fl.StringVar(&f.name, "workload", "all", "all; custom: transact in the shape that flags say; or a group or workload of the catalog: "+strings.Join(mirroreval.Names(), ", "))
	fl.StringVar(&f.trace, "trace", "", "replay this file in place of a workload: a transaction a line, the number of cache lines of each epoch")
	fl.IntVar(&f.threads, "threads", 0, "threads; 0: as many as the workload says")
	fl.IntVar(&f.transactions, "transactions", 0, "transactions of each thread; 0: as many as give a run enough epochs")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of everything that varies")
	fl.DurationVar(&f.think, "think", 0, "applications of whisper: computation besides each transaction or request; 0: as each says (none to 2 us)")
	def := transact.Default()
	fl.IntVar(&f.transact.Epochs, "epochs", def.Epochs, "custom: epochs of a transaction")
	fl.IntVar(&f.transact.Writes, "writes", def.Writes, "custom: writes of an epoch")
	fl.IntVar(&f.transact.Bytes, "bytes", def.Bytes, "custom: bytes of a write, a multiple of 8")
	fl.IntVar(&f.transact.Reads, "reads", 0, "custom: loads of lines before the writes of an epoch")
	fl.DurationVar(&f.transact.Compute, "compute", 0, "custom: computation before each epoch")
	fl.Uint64Var(&f.transact.Span, "span", def.Span, "custom: bytes of the region in which a thread writes")
}

// shapes are the flags that only Transact has a use for.
var shapes = []string{"epochs", "writes", "bytes", "reads", "compute", "span"}

// chosen are the workloads that the flags name.
func (f *workloadFlags) chosen(fl *pflag.FlagSet) ([]mirroreval.Group, error) {
	groups, err := f.named(fl)
	if err == nil && f.think != 0 {
		if groups, err = mirroreval.Thinking(groups, f.think); err != nil {
			err = fmt.Errorf("--think: %w", err)
		}
	}
	return groups, err
}

func (f *workloadFlags) named(fl *pflag.FlagSet) ([]mirroreval.Group, error) {
	if f.threads < 0 || f.transactions < 0 {
		return nil, errors.New("--threads and --transactions count: want 0 or more")
	}
	for _, name := range shapes {
		if fl.Changed(name) && (f.name != "custom" || f.trace != "") {
			return nil, fmt.Errorf("--%s is for --workload custom alone", name)
		}
	}
	switch {
	case f.trace != "":
		if fl.Changed("workload") {
			return nil, errors.New("--trace and --workload exclude each other: choose one")
		}
		file, err := os.Open(f.trace)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		all, err := trace.Read(f.trace, file)
		if err != nil {
			return nil, err
		}
		w, err := trace.New(strings.TrimSuffix(filepath.Base(f.trace), filepath.Ext(f.trace)), all, max(1, f.threads))
		if err != nil {
			return nil, err
		}
		return []mirroreval.Group{{Name: "trace", Workloads: []workload.Workload{w}}}, nil
	case f.name == "custom":
		f.transact.Threads = max(1, f.threads)
		w, err := transact.New(f.transact)
		if err != nil {
			return nil, err
		}
		return []mirroreval.Group{{Name: "custom", Workloads: []workload.Workload{w}}}, nil
	case f.name == "all":
		return mirroreval.Catalog(), nil
	}
	g, err := mirroreval.Find(f.name)
	if err != nil {
		return nil, err
	}
	return []mirroreval.Group{g}, nil
}

// compareFlags say where and how strategies are compared.
type compareFlags struct {
	workloadFlags
	fabric, params, csv, plots, dir string
	memory                          []string
	rounds                          int
	sensitivity, direct             bool
}

func mirrorCompareCmd() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Compare the strategies of mirroring, on modelled hardware or on a real fabric",
		Long: `Runs workloads under every strategy (none, sm-rc, sm-ob, sm-dd) and prints how long a transaction takes, how many times as
long as without a mirror, and how many times as fast as with remote commits (sm-rc); for each workload, and in the geometric
mean. After each run the data is checked and the mirror compared with it.

With --fabric model, the default, the time is that of a model of the hardware with a virtual clock: of persistent-memory
instructions, network cards, links, caches and memory; what a workload computes besides counts as far as it says so. The
model's parameters and their ranges: whale mirror params. Runs with the same parameters, seed and workload give the same
figures. --sensitivity repeats everything with each parameter at both ends of its range, and tells which of them move the
result.

With --fabric shm, tcp or verbs the time is real, and both sides are in this process: the network is this machine's
memory, its loopback, or its RDMA device. The memory is files, flushed as persistent memory is, or what --memory names. RDMA
devices that flush by themselves need device DAX.`,
		Example: `  whale mirror compare
  whale mirror compare --workload custom --epochs 64 --threads 4 --sensitivity
  whale mirror compare --fabric shm --workload transact
  whale mirror compare --fabric verbs --memory /dev/dax0.0,/dev/dax1.0 --workload transact
  whale mirror params > lab.toml; whale mirror compare --params lab.toml --csv - --plots .`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.bind(fl)
	fl.StringVar(&f.fabric, "fabric", "model", "model, shm, tcp or verbs")
	fl.StringVar(&f.params, "params", "", "model: file with parameters of the hardware, TOML; what it does not name keeps its default")
	fl.BoolVar(&f.sensitivity, "sensitivity", false, "model: also run with each parameter at both ends of its range")
	fl.StringVar(&f.dir, "dir", "/dev/shm", "shm, tcp, verbs: folder for the memory's files")
	fl.StringSliceVar(&f.memory, "memory", nil, "shm, tcp, verbs: two devices of device DAX, the primary's memory and the mirror's, which are overwritten; default: files below --dir")
	fl.BoolVar(&f.direct, "direct-write", false, "verbs: the mirror declares that incoming writes pass its caches by, as sm-dd needs it (DDIO is off)")
	fl.IntVar(&f.rounds, "rounds", 5, "shm, tcp, verbs: runs of each, of which the median counts")
	fl.StringVar(&f.csv, "csv", "", "also write the comparison as CSV to this file; -: to standard output instead of the table")
	fl.StringVar(&f.plots, "plots", "", "also draw slowdown.svg and speedup.svg into this folder")
	return cmd
}

func (f *compareFlags) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	groups, err := f.chosen(cmd.Flags())
	if err != nil {
		return err
	}
	c := mirroreval.Compare{Groups: groups, Threads: f.threads, Transactions: f.transactions, Seed: f.seed}
	params := timing.Default()
	foreign := []string{"dir", "rounds", "memory", "direct-write"}
	if f.fabric == "model" {
		if f.params != "" {
			if params, err = timing.Load(f.params); err != nil {
				return err
			}
		}
		c.Run = mirroreval.OnModel(params)
	} else {
		foreign = []string{"params", "sensitivity"}
		if f.rounds < 1 {
			return fmt.Errorf("--rounds %d: want 1 or more", f.rounds)
		}
		if f.fabric != node.FabricVerbs {
			foreign = append(foreign, "direct-write")
		}
		if err := checkDevices(f.memory); err != nil {
			return err
		}
		c.Run, c.Rounds = mirroreval.OnFabric(mirroreval.Place{Provider: f.fabric, Dir: f.dir, Memory: f.memory, Domain: pmem.ADR, DirectWrite: f.direct}), f.rounds
	}
	for _, name := range foreign {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s says nothing with --fabric %s", name, f.fabric)
		}
	}
	bar := newBar()
	c.Progress = bar.count()
	rows, err := c.Rows(ctx)
	bar.clear()
	var effects []mirroreval.Effect
	if err == nil && f.sensitivity {
		bar = newBar()
		c.Progress = bar.count()
		effects, err = c.Sensitivity(ctx, params)
		bar.clear()
	}
	if err != nil {
		return err
	}
	if f.plots != "" {
		files, err := mirroreval.WritePlots(f.plots, rows)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "drawn:", strings.Join(files, ", "))
	}
	return writeResult(cmd.OutOrStdout(), f.csv,
		func(w io.Writer) error { return mirroreval.WriteTable(w, rows, effects) },
		func(w io.Writer) error { return mirroreval.WriteCSV(w, rows) })
}

// checkDevices says what is wrong with the memory that was named. A file in its place would be overwritten, and have to be of the
// workload's size, which nobody knows beforehand.
func checkDevices(memory []string) error {
	if len(memory) != 0 && (len(memory) != 2 || memory[0] == memory[1]) {
		return fmt.Errorf("--memory %s: want two devices, the primary's and the mirror's: /dev/dax0.0,/dev/dax1.0", strings.Join(memory, ","))
	}
	for _, path := range memory {
		switch st, err := os.Stat(path); {
		case err != nil:
			return fmt.Errorf("--memory: %w: ndctl list -N shows devices of device DAX", err)
		case st.Mode()&os.ModeCharDevice == 0:
			return fmt.Errorf("--memory %s: it is no device of device DAX; files go below --dir", path)
		}
	}
	return nil
}

// writeResult prints the table, and the CSV where it is wanted: "-" is in the table's place.
func writeResult(out io.Writer, path string, table, csv func(io.Writer) error) error {
	switch path {
	case "-":
		return csv(out)
	case "":
		return table(out)
	}
	if err := writeFile(path, csv); err != nil {
		return err
	}
	return table(out)
}

func writeFile(path string, text func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = text(file)
	return errors.Join(err, file.Close())
}

func mirrorParamsCmd() *cobra.Command {
	var params string
	cmd := &cobra.Command{
		Use:     "params",
		Short:   "Print the parameters of the modelled hardware, with their ranges, as a file for --params",
		Example: `  whale mirror params > lab.toml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := timing.Default()
			if params != "" {
				var err error
				if p, err = timing.Load(params); err != nil {
					return err
				}
			}
			_, err := io.WriteString(cmd.OutOrStdout(), p.Text())
			return err
		},
	}
	cmd.Flags().StringVar(&params, "params", "", "start from this file instead of the defaults")
	return cmd
}

func mirrorRecordCmd() *cobra.Command {
	var f workloadFlags
	cmd := &cobra.Command{
		Use:   "record --workload NAME",
		Short: "Print the trace of a workload: a transaction a line, the number of cache lines of each epoch",
		Example: `  whale mirror record --workload custom --epochs 4 --transactions 1000 > t.trace
  whale mirror compare --trace t.trace`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := f.chosen(cmd.Flags())
			if err != nil {
				return err
			}
			if len(groups) != 1 || len(groups[0].Workloads) != 1 {
				return errors.New("a trace is of one workload: name it with --workload")
			}
			return mirroreval.Record(cmd.OutOrStdout(), groups[0].Workloads[0], f.threads, f.transactions, f.seed)
		},
	}
	f.bind(cmd.Flags())
	return cmd
}
