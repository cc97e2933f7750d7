//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"whale/internal/certs"
	"whale/internal/config"
	"whale/internal/node"
	"whale/pmem"
)

func doctorCmd() *cobra.Command {
	var s config.Settings
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether this machine is fit for a node, and say what to do",
		Long: `Looks at the disk, the shared memory, the limits, the ports, the certificates, the kernel, the processor and the clock, with
the settings that whale serve would use. It changes nothing. Exit code 1 means that a node would not run, or that others
would not accept its certificate.`,
		Example: `  whale doctor --config node.toml
  whale doctor --dir /var/lib/whale --arena 8GiB
  whale doctor --dir data --listen h0:7001 --tls-cert h0/node.crt --tls-key h0/node.key --tls-ca h0/ca.crt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.Load(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			d := doctor{settings: &s, root: "/", now: time.Now()}
			d.examine()
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			bad := 0
			for _, f := range d.findings {
				fmt.Fprintf(w, "%s\t%s\t%s\n", f.grade, f.what, f.found)
				if f.todo != "" {
					fmt.Fprintf(w, "\t\t-> %s\n", f.todo)
				}
				if f.grade == gradeBad {
					bad++
				}
			}
			w.Flush()
			if bad > 0 {
				return fmt.Errorf("%d findings keep a node from running, or others from reaching it", bad)
			}
			return nil
		},
	}
	s.Bind(cmd.Flags())
	return cmd
}

// Grades of findings.
const (
	gradeGood = "ok"
	gradeNote = "note"
	gradeBad  = "BAD"
)

type finding struct{ grade, what, found, todo string }

// doctor looks at one machine.
type doctor struct {
	settings *config.Settings
	root     string // of the file system: /proc and /sys below it are read
	now      time.Time
	findings []finding
}

func (d *doctor) add(grade, what, found, todo string) {
	d.findings = append(d.findings, finding{grade, what, found, todo})
}

func (d *doctor) examine() {
	d.disk()
	d.sharedMemory()
	d.limits()
	d.ports()
	d.certificates()
	d.kernel()
	d.processor()
	d.clock()
}

func (d *doctor) read(path string) string {
	text, _ := os.ReadFile(filepath.Join(d.root, path))
	return strings.TrimSpace(string(text))
}

// space is what is free for this user where path is or would be made.
func space(path string) (free uint64, kind int64, err error) {
	path, err = filepath.Abs(path)
	for err == nil {
		var fs unix.Statfs_t
		if err = unix.Statfs(path, &fs); err == nil {
			return fs.Bavail * uint64(fs.Bsize), fs.Type, nil
		}
		if err != unix.ENOENT || path == "/" {
			break
		}
		path, err = filepath.Dir(path), nil
	}
	return 0, 0, err
}

func bytesText(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func (d *doctor) folder() string {
	s := d.settings
	switch {
	case s.Dir != "":
		return s.Dir
	case s.ID >= 0 && s.ID < len(s.Peers) && !strings.Contains(s.Peers[s.ID], ":"):
		return s.Peers[s.ID]
	}
	return "."
}

func (d *doctor) arena() uint64 {
	if d.settings.Arena != 0 {
		return uint64(d.settings.Arena)
	}
	return node.DefaultArena
}

// disk looks at the memory that is there, or else at the room for a new one.
func (d *doctor) disk() {
	dir, elsewhere := d.folder(), d.settings.Memory
	path := filepath.Join(dir, "memory")
	if _, err := os.Lstat(path); err != nil {
		if elsewhere == "" {
			d.room(dir, "--dir")
			return
		}
		path = elsewhere
	}
	m, err := pmem.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && path == elsewhere && filepath.Dir(path) != "/dev":
		d.room(filepath.Dir(path), "--memory")
	case err != nil:
		d.add(gradeBad, "memory", err.Error(), "see to it that it is there (mounted, enabled), or choose another with --memory and --dir")
	default:
		d.add(gradeGood, "memory", fmt.Sprintf("%s has %s, persistence domain %v", path, bytesText(uint64(len(m.Bytes()))), m.Domain()), "")
		m.Close()
	}
}

// room looks whether a new memory fits into the folder, which the flag names.
func (d *doctor) room(dir, flag string) {
	free, kind, err := space(dir)
	need := d.arena() + 64<<20
	switch {
	case err != nil:
		d.add(gradeBad, "data folder", fmt.Sprintf("%s: %v", dir, err), "choose another with "+flag)
	case free < need:
		d.add(gradeBad, "data folder", fmt.Sprintf("%s free in %s, and a node takes %s", bytesText(free), dir, bytesText(need)), "make room, or choose a smaller --arena or another "+flag)
	default:
		d.add(gradeGood, "data folder", fmt.Sprintf("%s free in %s", bytesText(free), dir), "")
	}
	if err == nil && kind == unix.NFS_SUPER_MAGIC {
		d.add(gradeBad, "data folder", dir+" is on a network file system, which maps files differently at each machine", "choose a local disk with "+flag)
	}
	if err == nil && kind == unix.TMPFS_MAGIC {
		d.add(gradeNote, "data folder", dir+" is in memory: the data ends with the machine", "for data that is to stay, choose a disk with "+flag)
	}
}

func (d *doctor) sharedMemory() {
	free, _, err := space("/dev/shm")
	switch {
	case err != nil:
		d.add(gradeNote, "/dev/shm", err.Error(), "needed only for data folders in memory")
	case free < d.arena():
		d.add(gradeNote, "/dev/shm", bytesText(free)+" free, less than an arena", "a data folder in memory would not fit; in a container: --shm-size, or shm_size in a compose file")
	default:
		d.add(gradeGood, "/dev/shm", bytesText(free)+" free", "")
	}
}

func (d *doctor) limits() {
	var files, lock unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		need := uint64(d.settings.MaxClients) + 64
		if files.Cur < need { // the runtime has raised the soft limit to the hard one
			d.add(gradeNote, "open files", fmt.Sprintf("limit %d, and --max-clients is %d", files.Cur, d.settings.MaxClients), "raise LimitNOFILE in the unit (ulimit -n), or lower --max-clients")
		} else {
			d.add(gradeGood, "open files", fmt.Sprintf("limit %d", files.Cur), "")
		}
	}
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lock); err == nil {
		if lock.Cur < d.arena() {
			d.add(gradeNote, "locked memory", fmt.Sprintf("limit %d KiB", lock.Cur>>10), "enough for shared memory and TCP; RDMA would need LimitMEMLOCK=infinity (ulimit -l unlimited)")
		} else {
			d.add(gradeGood, "locked memory", "limit is above the arena", "")
		}
	}
}

func (d *doctor) ports() {
	s := d.settings
	peers := ""
	if s.Fabric == node.FabricTCP || s.Fabric == node.FabricVerbs {
		peers = s.FabricListen
		if peers == "" && s.ID >= 0 && s.ID < len(s.Peers) {
			peers = s.Peers[s.ID]
		}
	}
	for _, p := range []struct{ what, flag, addr string }{{"Redis port", "--listen or --port", s.RedisAddress()}, {"fabric port", "--fabric-listen or --peers", peers}, {"admin port", "--admin", s.Admin}} {
		if p.addr == "" {
			continue
		}
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			what := "give host:port with " + p.flag + ": an address of this machine, a port from 1 to 65535"
			switch {
			case errors.Is(err, unix.EADDRINUSE):
				what = "stop what listens there (a node that runs already?), or choose another with " + p.flag
			case errors.Is(err, unix.EACCES):
				what = "choose a port from 1024 on with " + p.flag + ", or let the node have CAP_NET_BIND_SERVICE"
			}
			d.add(gradeBad, p.what, err.Error(), what)
			continue
		}
		l.Close()
		d.add(gradeGood, p.what, p.addr+" is free", "")
	}
}

func (d *doctor) certificates() {
	s := d.settings
	files := certs.Files{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}
	if !files.On() {
		d.add(gradeNote, "TLS", "off", "fine on loopback; for other addresses, whale cert makes what it needs")
		return
	}
	var places []certs.Place
	place := func(addr, setting string, member bool) {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			places = append(places, certs.Place{Host: host, Setting: setting + " " + addr, Member: member})
		}
	}
	members := s.Fabric == node.FabricTCP
	if members {
		if s.ID >= 0 && s.ID < len(s.Peers) {
			place(s.Peers[s.ID], "this node's entry in --peers,", true)
		}
		place(s.FabricListen, "--fabric-listen", false)
	}
	place(s.RedisAddress(), "--listen (or --port)", false)
	report := files.Examine(d.now, members, places)
	for _, f := range report.Faults {
		grade := gradeBad
		if f.Mild {
			grade = gradeNote
		}
		d.add(grade, "TLS", f.Err.Error(), f.Todo)
	}
	if len(report.Faults) == 0 {
		d.add(gradeGood, "TLS", fmt.Sprintf("certificate until %s, for %s", report.Ends.Format(time.DateOnly), strings.Join(report.Names, ", ")), "")
	}
}

func (d *doctor) kernel() {
	version := d.read("proc/sys/kernel/osrelease")
	var major, minor int
	fmt.Sscanf(version, "%d.%d", &major, &minor)
	if major < 5 || major == 5 && minor < 3 {
		d.add(gradeBad, "kernel", version, "Linux 5.3 or newer is needed, for pidfd_open")
	} else {
		d.add(gradeGood, "kernel", version, "")
	}
}

func (d *doctor) processor() {
	flags := map[string]bool{}
	cores := 0
	for line := range strings.Lines(d.read("proc/cpuinfo")) {
		switch name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) {
		case "processor":
			cores++
		case "flags", "Features":
			for _, f := range strings.Fields(value) {
				flags[f] = true
			}
		}
	}
	if cores < 2 {
		d.add(gradeNote, "processor", fmt.Sprintf("%d core", cores), "a node is faster if its loop has a core of its own")
	} else {
		d.add(gradeGood, "processor", fmt.Sprintf("%d cores", cores), "")
	}
	switch {
	case flags["clwb"]:
		d.add(gradeGood, "cache flushes", "clwb", "")
	case flags["clflushopt"]:
		d.add(gradeGood, "cache flushes", "clflushopt", "")
	default:
		d.add(gradeNote, "cache flushes", "neither clwb nor clflushopt", "only persistent memory (DAX) would be slow; plain files do not need them")
	}
	if !flags["sse4_2"] && !flags["crc32"] {
		d.add(gradeNote, "checksums", "no instruction for CRC-32C", "every record costs more time")
	}
}

func (d *doctor) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		d.add(gradeNote, "clock", err.Error(), "")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.add(gradeNote, "clock", "not synchronized", "run chrony or systemd-timesyncd: the primary's clock decides when keys expire")
	default:
		d.add(gradeGood, "clock", "synchronized", "")
	}
	if source := d.read("sys/devices/system/clocksource/clocksource0/current_clocksource"); source != "" && source != "tsc" && source != "kvm-clock" && source != "arch_sys_counter" {
		d.add(gradeNote, "clock source", source, "reading the clock is a system call with it; tsc is faster")
	}
}
