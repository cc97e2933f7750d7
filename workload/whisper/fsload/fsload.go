// Package fsload is the load that three servers put on a file system in persistent memory, as in WHISPER: an NFS server whose clients
// use many files, a mail server (Exim), and a database (MySQL). Each operation of the file system is a transaction.
//
// A server's threads have a directory each. What is in a file follows from its name, so that every byte can be checked.
package fsload

import (
	"encoding/binary"
	"fmt"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/pmfs"
	"whale/workload/whisper/tm"
)

// Server is whose load it is.
type Server int

const (
	NFS Server = iota
	Exim
	MySQL
)

// Params are how much there is. Those that are zero get their default.
type Params struct {
	Threads int
	Files   int           // of a thread: NFS, Exim: files it keeps; MySQL: pages of its table
	Think   time.Duration // work besides an operation; default: none
}

// load is what a server does.
type load interface {
	// prepare fills a thread's directory with what the server starts with, a step of it a transaction. Done: more = false.
	prepare(s *step) (more bool, err error)
	// draw is the next operation.
	draw(g *workload.Thread) func(s *step) error
	// check checks a file of a thread's directory, by its path in it.
	check(s *step, path string, node pmfs.Inode) error
}

// step is an operation under way.
type step struct {
	*pmfs.FS
	tx  *tm.Tx
	dir pmfs.Inode // the thread's
}

var servers = [...]struct {
	name    string
	def     Params
	perFile uint64 // bytes of region that a file may take
	load    func(p Params) load
}{
	{"nfs", Params{Threads: 8, Files: 40}, 4 * nfsMax / 3 * 4, func(p Params) load { return &nfs{p.Files} }},
	{"exim", Params{Threads: 8, Files: 60}, 2 * 6 << 10, func(p Params) load { return &exim{p.Files} }},
	{"mysql", Params{Threads: 4, Files: 64}, pageSize * 2, func(p Params) load { return &mysql{p.Files} }},
}

// Load implements workload.Workload.
type Load struct {
	server Server
	p      Params
}

// New checks the parameters.
func New(s Server, p Params) (*Load, error) {
	if s < NFS || s > MySQL {
		return nil, fmt.Errorf("fsload: unknown server %d", s)
	}
	def := servers[s].def
	if p.Threads == 0 {
		p.Threads = def.Threads
	}
	if p.Files == 0 {
		p.Files = def.Files
	}
	if p.Threads < 1 || p.Threads > 16 || p.Files < 1 || p.Files > 1<<16 || p.Think < 0 {
		return nil, fmt.Errorf("%s: %d threads, %d files, think %v: want 1 to 16, 1 to %d, and 0 or more", servers[s].name, p.Threads, p.Files, p.Think, 1<<16)
	}
	return &Load{s, p}, nil
}

// Name implements workload.Workload.
func (w *Load) Name() string { return servers[w.server].name }

// Threads implements workload.Workload.
func (w *Load) Threads() int { return w.p.Threads }

// Size implements workload.Workload.
func (w *Load) Size() uint64 {
	return uint64(w.p.Threads)*(uint64(w.p.Files)*servers[w.server].perFile+perThread) + 16*logSize + 192<<10
}

const (
	logSize   = 16 << 10
	perThread = 128 << 10
)

func (w *Load) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Threads), uint64(w.p.Files)}, Pool: ptx.Options{LogSize: logSize, Root: pmfs.RootSize}}
}

func (w *Load) program(d *app.Data) *program {
	return &program{w: w, fs: pmfs.Open(d), mem: tm.New(d.Pool), load: servers[w.server].load(w.p)}
}

// Prepare implements workload.Workload.
func (w *Load) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		p, t := w.program(d), workload.NewThread(0, 1, app.Still{})
		err := p.mem.Run(t, func(tx *tm.Tx) error {
			if err := p.fs.Format(tx); err != nil {
				return err
			}
			for i := range w.p.Threads {
				if _, err := p.fs.Mkdir(tx, p.fs.Root(tx), home(i)); err != nil {
					return err
				}
			}
			return nil
		})
		for i := 0; i < w.p.Threads && err == nil; i++ {
			for more := true; more && err == nil; {
				err = p.do(t, i, func(s *step) (err error) {
					more, err = p.load.prepare(s)
					return err
				})
			}
		}
		return err
	})
}

func home(thread int) string { return fmt.Sprintf("t%d", thread) }

// Open implements workload.Workload.
func (w *Load) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	return w.program(d), nil
}

type program struct {
	w    *Load
	fs   *pmfs.FS
	mem  *tm.Memory
	load load
}

// do runs an operation of a thread.
func (p *program) do(t *workload.Thread, thread int, f func(*step) error) error {
	return p.mem.Run(t, func(tx *tm.Tx) error {
		dir, err := p.fs.Lookup(tx, p.fs.Root(tx), home(thread))
		if err != nil {
			return err
		}
		return f(&step{p.fs, tx, dir})
	})
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		app.Think(t, p.w.p.Think)
		if err := p.do(t, t.Index%p.w.p.Threads, p.load.draw(t)); err != nil {
			return err
		}
	}
	return nil
}

// Check implements workload.Program: the file system is sound, and every byte of every file is what it should be.
func (p *program) Check() error {
	return p.mem.Look(func(tx *tm.Tx) error {
		return p.fs.Check(tx, func(path string, node pmfs.Inode) error {
			for i := range p.w.p.Threads {
				if prefix := "/" + home(i) + "/"; len(path) > len(prefix) && path[:len(prefix)] == prefix {
					dir, err := p.fs.Lookup(tx, p.fs.Root(tx), home(i))
					if err == nil {
						err = p.load.check(&step{p.fs, tx, dir}, path[len(prefix):], node)
					}
					if err != nil {
						return fmt.Errorf("%s: %w", path, err)
					}
					return nil
				}
			}
			return fmt.Errorf("%w: a file %s", app.ErrDamaged, path)
		})
	})
}

// Content implements app.Program.
func (p *program) Content() (sum uint64) {
	p.mem.Look(func(tx *tm.Tx) error {
		sum = p.fs.Content(tx)
		return nil
	})
	return sum
}

// stuff is what a file of that name has in [off, off+n).
func stuff(name string, off, n uint64) []byte {
	seed := uint64(len(name))
	for _, c := range []byte(name) {
		seed = app.Mix(seed ^ uint64(c))
	}
	first := off / 8
	b := make([]byte, 0, n+16)
	for word := first; word*8 < off+n; word++ {
		b = binary.LittleEndian.AppendUint64(b, app.Mix(seed+word))
	}
	return b[off%8:][:n]
}

// appendStuff lets a file grow by n bytes.
func (s *step) appendStuff(node pmfs.Inode, name string, n uint64) error {
	size := node.Size(s.tx)
	return s.WriteAt(s.tx, node, size, stuff(name, size, n))
}

// checkStuff checks a file that grew that way.
func (s *step) checkStuff(node pmfs.Inode, name string) error {
	b, err := s.read(node)
	if err == nil && string(b) != string(stuff(name, 0, uint64(len(b)))) {
		err = fmt.Errorf("%w: its %d bytes are not its own", app.ErrDamaged, len(b))
	}
	return err
}

func (s *step) read(node pmfs.Inode) ([]byte, error) {
	b := make([]byte, node.Size(s.tx))
	_, err := s.ReadAt(s.tx, node, 0, b)
	return b, err
}

// nth is a name of a directory: number n modulo their number.
func (s *step) nth(dir pmfs.Inode, n uint64) (name string, node pmfs.Inode, ok bool) {
	size := dir.Size(s.tx)
	if size == 0 {
		return "", 0, false
	}
	n %= size
	s.List(s.tx, dir, func(is string, at pmfs.Inode) bool {
		name, node, ok = is, at, n == 0
		n--
		return !ok
	})
	return name, node, ok
}

// newName is a name that nothing has, in all probability.
func newName(g *workload.Thread) string { return fmt.Sprintf("%016x", g.Rand.Uint64()) }
