// Package node is one process of a cluster: it serves Redis clients on sockets, runs the member of the shard that is in
// its data folder, and connects it to the other members.
//
// Everything about a client's command happens on one goroutine, the loop, which owns the engine, the listening socket
// and connections; with more threads, further goroutines own connections too and hand over to the loop what they cannot
// answer from the store themselves. The other goroutines only make connections to peers. See [loop] and [reactor].
package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/internal/certs"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
	"whale/internal/resp"
	"whale/internal/shard"
	"whale/internal/store"
	"whale/pmem"
)

// Config is a node's settings. Zero fields have the defaults named at them.
type Config struct {
	ID      int      // this node's index in Peers; 0 is the primary
	Peers   []string // the members, in the same order at all of them: their data folders, or, over TCP and RDMA, their fabric's host:port
	Dir     string   // this node's data folder; empty: its entry in Peers
	Memory  string   // a device of device DAX, or a file, that is the memory; empty: the one that Dir knows of, else a file in Dir
	Listen  string   // where Redis clients connect, host:port; port 0: any free one
	Secret  string   // the file with the cluster's secret
	Version string   // of the program, for INFO

	Fabric       string      // what connects the members: FabricSHM, FabricTCP or FabricVerbs; empty: FabricSHM
	FabricListen string      // FabricTCP, FabricVerbs: where members connect, host:port; empty: this node's entry in Peers
	Device       string      // FabricVerbs: the RDMA device, with :N its port N; empty: the one with FabricListen's address
	DirectWrite  bool        // FabricVerbs: what an RDMA device writes here goes past the caches into the memory
	TLS          certs.Files // for clients, and for members over TCP; empty: no TLS

	Arena          uint64 // bytes for records; 0: those of the existing memory; for a new one all of a device, or 1 GiB
	RingSlots      uint64 // of a new memory; 0: plog's default
	Policy         replication.Policy
	Protocol       string        // whale or chain; empty: whale
	Mirrors        int           // policy mirror: backups that hold a write's data before it is acknowledged; 0: 1
	MinCopies      int           // writes are taken with so many copies, although the policy wants more; 0: with no fewer than it wants
	CommandTimeout time.Duration // a command that is not done by then fails; 0: 10 s
	MaxClients     int           // 0: 10000
	QueueLimit     int           // commands of all clients waiting to be executed; 0: 131072
	Limits         resp.Limits   // of one command
	Insecure       bool          // listen on an address that is not loopback
	Threads        int           // goroutines that serve clients, the loop included; 0: 1

	File             string // where settings came from, for CONFIG; empty: none
	Password         string // that clients have to give; empty: none
	SlowerThan       int64  // microseconds from which on a command is for the slow log; 0: all, negative: none
	SlowMax          int64  // entries of the slow log
	LatencyThreshold int64  // milliseconds from which on a command is a latency event; 0: none is
	EnableDebug      bool   // DEBUG is allowed
	Admin            string // where operators connect by HTTP, host:port; empty: nowhere

	Log     *slog.Logger // nil: slog's default
	Observe func(State)  // told of every change, on the loop: must not block; may be nil

	incarnation uint64
}

// Defaults of [Config].
const (
	DefaultArena          = 1 << 30
	DefaultCommandTimeout = 10 * time.Second
	DefaultMaxClients     = 10000
	DefaultQueueLimit     = 128 << 10
	MaxThreads            = 64
)

// PermanentError is one that starting the node again does not mend: somebody has to change something first.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

func permanent(err error) error { return &PermanentError{err} }

// Node is an open node. Make it with Open, run it once with Run, then Close it.
type Node struct {
	cfg      Config
	log      *slog.Logger
	folder   *Folder
	endpoint fabric.Endpoint
	memory   *pmem.File
	geometry plog.Geometry // of a new memory
	buffers  pmem.Memory   // for messages
	records  *plog.Log
	store    *store.Store
	engine   *shard.Engine
	server   *server
	loop     *loop
	peers    *peers
	admin    *admin // nil: none
}

// Open takes the folder, recovers what is in it, and listens; nothing is served and no peer is spoken to before Run. The
// order is that of a restart in docs/protocol.md: lock, withdraw what peers could do to the memory in an earlier life,
// read the log, and only then speak.
//
// A *[PermanentError] says that trying again is of no use.
func Open(cfg Config) (_ *Node, err error) {
	n := &Node{cfg: cfg}
	if err := n.cfg.setDefaults(); err != nil {
		return nil, permanent(err)
	}
	n.log = n.cfg.Log
	secret, err := ReadSecret(cfg.Secret)
	if err != nil {
		return nil, permanent(err)
	}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.folder, err = OpenFolder(n.cfg.Dir, "whale node"); err != nil {
		return nil, err
	}
	var secure *tls.Config
	if n.cfg.TLS.On() {
		if secure, err = n.cfg.TLS.Load(); err != nil {
			return nil, permanent(err)
		}
		for _, fault := range n.cfg.TLS.Examine(time.Now(), n.cfg.Fabric == FabricTCP, nil).Faults {
			n.cfg.Log.Warn("the certificate will make trouble", "error", fault.Err, "do", fault.Todo)
		}
	}
	// Mapped first, for peers are told its domain, and read only when the fabric has been opened.
	if err := n.mapMemory(); err != nil {
		return nil, err
	}
	if n.endpoint, err = openFabric(&n.cfg, secret, secure, n.memory.Domain()); err != nil {
		return nil, err
	}
	if err := n.recover(); err != nil {
		return nil, err
	}
	fd, bound, err := listen(n.cfg.Listen)
	if err != nil {
		return nil, err
	}
	n.cfg.Arena = n.records.Geometry().ArenaSize()
	n.server = newServer(&n.cfg, time.Now())
	n.server.laddr, n.server.figures = bound, n.figures
	if secure != nil {
		n.server.certificateEnds = secure.Certificates[0].Leaf.NotAfter
	}
	if n.engine, err = n.newEngine(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if n.loop, err = newLoop(&n.cfg, n.engine, n.endpoint, n.server, fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if n.cfg.Admin != "" {
		if n.admin, err = newAdmin(n.cfg.Admin, n.cfg.Insecure, n.server, n.log); err != nil {
			return nil, err
		}
		n.server.admin = n.admin.addr()
	}
	n.loop.secure = secure
	n.peers = &peers{
		endpoint: n.endpoint, addrs: n.cfg.Peers, secret: n.cfg.Secret, log: n.log,
		self:    hello{From: cfg.ID, Members: len(cfg.Peers), Geometry: n.records.Geometry(), Redis: bound},
		deliver: func(k *link) { n.loop.mail.put(message{link: k}) },
	}
	n.loop.redial = n.peers.redial
	return n, nil
}

func (cfg *Config) setDefaults() error {
	if len(cfg.Peers) == 0 || len(cfg.Peers) > plog.MaxMembers {
		return fmt.Errorf("%d members; possible are 1 to %d: name the data folder of each with --peers (or its host:port, with --fabric tcp or verbs)", len(cfg.Peers), plog.MaxMembers)
	}
	if cfg.ID < 0 || cfg.ID >= len(cfg.Peers) {
		return fmt.Errorf("--id %d: there are %d members, so expected 0 to %d", cfg.ID, len(cfg.Peers), len(cfg.Peers)-1)
	}
	if err := cfg.checkFabric(); err != nil {
		return err
	}
	if err := CheckListen(cfg.Listen, cfg.Insecure || cfg.TLS.On()); err != nil {
		return err
	}
	if cfg.Threads < 0 || cfg.Threads > MaxThreads {
		return fmt.Errorf("--threads %d: expected 1 to %d", cfg.Threads, MaxThreads)
	}
	if cfg.Mirrors < 0 || cfg.Mirrors > 1 && cfg.Mirrors >= len(cfg.Peers) {
		return fmt.Errorf("--mirrors %d: there are %d members in --peers, so expected 0 to %d", cfg.Mirrors, len(cfg.Peers), max(len(cfg.Peers)-1, 1))
	}
	if cfg.Protocol == "" {
		cfg.Protocol = "whale"
	}
	if protocols[cfg.Protocol] == nil {
		return fmt.Errorf("--protocol %q: expected whale or chain", cfg.Protocol)
	}
	if cfg.MinCopies < 0 || cfg.MinCopies > len(cfg.Peers) {
		return fmt.Errorf("--min-copies %d: expected 1 to the number of members, %d, or 0 for what the policy wants", cfg.MinCopies, len(cfg.Peers))
	}
	orElse(&cfg.Mirrors, 1)
	orElse(&cfg.Threads, 1)
	orElse(&cfg.CommandTimeout, DefaultCommandTimeout)
	orElse(&cfg.MaxClients, DefaultMaxClients)
	orElse(&cfg.QueueLimit, DefaultQueueLimit)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(State) {}
	}
	var random [8]byte
	rand.Read(random[:])
	cfg.incarnation = binary.LittleEndian.Uint64(random[:]) | 1
	return nil
}

// orElse gives a field that was not set its default.
func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// distinct says whether two members have the same folder, also under different names.
func distinct(dirs []string) error {
	seen := map[string]int{}
	for i, dir := range dirs {
		path, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if first, ok := seen[path]; ok {
			return fmt.Errorf("members %d and %d have the same data folder %s: give each its own in --peers", first, i, path)
		}
		seen[path] = i
	}
	return nil
}

// protocols are the ways to replicate.
var protocols = map[string]func(plog.Geometry) replication.Core{
	"whale": func(g plog.Geometry) replication.Core { return whale.New(g) },
	"chain": func(g plog.Geometry) replication.Core { return chain.New(g) },
}

func (n *Node) newEngine() (*shard.Engine, error) {
	buffers, err := n.cfg.buffers()
	if err != nil {
		return nil, err
	}
	n.buffers = buffers
	return shard.New(shard.Config{
		Self: n.cfg.ID, Members: n.cfg.names(), Policy: n.cfg.Policy, Mirrors: n.cfg.Mirrors, MinCopies: n.cfg.MinCopies,
		CommandTimeout: n.cfg.CommandTimeout, QueueLimit: n.cfg.QueueLimit,
		Buffers: buffers,
		Server:  n.server,
		Core:    protocols[n.cfg.Protocol](n.records.Geometry()),
		Event:   func(text string) { n.log.Debug(text) },
	}, n.store, n.records, n.endpoint)
}

func (n *Node) figures() figures {
	g := n.records.Geometry()
	return figures{arena: g.ArenaSize(), arenaUsed: n.records.Tail(), ring: g.RingSlots, index: n.store.Stats().IndexBytes, domain: n.memory.Domain().String()}
}

// Admin is the address for operators; empty: none.
func (n *Node) Admin() string { return n.server.admin }

// Redis is the address that clients connect to.
func (n *Node) Redis() string { return n.server.laddr }

// Run serves until ctx ends, and then ends in order: commands under way may finish for a short while. An error means that
// the node had to end; a *[pmem.Fault] in it names the file that was pulled away under it.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var aside sync.WaitGroup
	failed := make(chan error, len(n.loop.reactors))
	for _, r := range n.loop.reactors[1:] {
		aside.Go(func() {
			if err := r.serveAside(); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	if n.admin != nil {
		aside.Go(n.admin.run)
	}
	n.peers.start(ctx)
	stop := context.AfterFunc(ctx, func() { n.loop.mail.put(message{end: finish}) })
	defer stop()
	err := n.loop.serveForever()
	cancel()
	if n.admin != nil {
		n.admin.close()
	}
	for _, r := range n.loop.reactors[1:] {
		r.mail.put(message{end: leave})
	}
	aside.Wait()
	n.peers.stop()
	select {
	case other := <-failed:
		err = errors.Join(err, other)
	default:
	}
	return err
}

// Close gives everything back. Run must not be running.
func (n *Node) Close() error {
	var errs []error
	if n.admin != nil {
		n.admin.listener.Close()
	}
	if n.loop != nil {
		n.loop.close()
	}
	if n.engine != nil {
		n.engine.Close()
	}
	if n.endpoint != nil {
		errs = append(errs, n.endpoint.Close())
	}
	if n.records != nil {
		errs = append(errs, n.records.Close())
	}
	if n.memory != nil {
		errs = append(errs, n.memory.Close())
	}
	if mapped, ok := n.buffers.(io.Closer); ok {
		errs = append(errs, mapped.Close())
	}
	if n.folder != nil {
		errs = append(errs, n.folder.Close())
	}
	return errors.Join(errs...)
}

func splitAddress(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, "0"
	}
	return host, port
}
