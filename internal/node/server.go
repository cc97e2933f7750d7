package node

import (
	"cmp"
	"iter"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"whale/internal/command"
	"whale/internal/resp"
	"whale/internal/shard"
)

// State is what the people and programs around a node want to know of it.
type State struct {
	Serving bool   `json:"serving"`           // reads are answered, and at the primary writes are taken
	Role    string `json:"role"`              // "primary" or "backup"
	Epoch   uint32 `json:"epoch"`             // of the view
	Waiting string `json:"waiting,omitempty"` // what the node waits for before it can serve
	Failed  string `json:"failed,omitempty"`  // why it will not serve, however long one waits
	Admin   string `json:"admin,omitempty"`   // the admin address
}

// server is the node as commands see it; it implements [command.Server]. Role and Info read the engine, so they are for
// the loop alone; see [reactor.dispatch]. The rest is for any goroutine.
type server struct {
	cfg             *Config
	laddr           string    // of the Redis listener
	certificateEnds time.Time // zero: no TLS
	admin           string    // the admin address; empty: none
	started         time.Time
	primary         bool
	figures         func() figures // of log and store
	loop            *loop
	peers           []string // where the other members serve Redis clients; empty: not known yet. The loop's

	total, rejected atomic.Int64
	base            struct{ commands, in, out atomic.Uint64 } // what the counters stood at when they were reset

	params *command.Params
	notes  command.Notes
	pause  pause

	monitors atomic.Int64 // connections that are shown every command

	mu      sync.Mutex
	clients map[uint64]*conn
}

// figures are sizes in bytes.
type figures struct {
	arena, arenaUsed, index uint64
	ring                    uint64 // slots
	domain                  string
}

var _ command.Server = (*server)(nil)

func newServer(cfg *Config, started time.Time) *server {
	s := &server{cfg: cfg, started: started, primary: cfg.ID == 0, peers: make([]string, len(cfg.Peers)), params: params(cfg), clients: map[uint64]*conn{}}
	for range cfg.Threads {
		s.notes.Times = append(s.notes.Times, command.NewTimes())
	}
	return s
}

func (s *server) remember(c *conn) {
	s.total.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c.client.ID] = c
}

func (s *server) forget(c *command.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c.ID)
	if c.Monitoring() {
		s.monitors.Add(-1)
	}
}

func (s *server) connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// Clients implements [command.Server]: a snapshot, oldest first.
func (s *server) Clients() iter.Seq[*command.Client] {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(s.clients), cmp.Compare[uint64])
	list := make([]*command.Client, len(all))
	for i, id := range all {
		list[i] = s.clients[id].client
	}
	return slices.Values(list)
}

// Now implements [command.Server].
func (s *server) Now() int64 { return time.Now().UnixMilli() }

// RoleName implements [command.Server]. The primary is fixed.
func (s *server) RoleName() string {
	if s.primary {
		return "master"
	}
	return "replica"
}

// Role implements [command.Server]: the shapes of Redis, with record numbers as offsets.
func (s *server) Role(w *resp.Writer) {
	st := s.loop.engine.Status()
	if s.primary {
		w.Array(3)
		w.BulkString("master")
		w.Int(int64(st.End))
		w.Array(len(st.Members) - 1)
		for _, m := range st.Members {
			if m.Self {
				continue
			}
			host, port := s.address(m.ID)
			w.Array(3)
			w.BulkString(host)
			w.BulkString(port)
			w.BulkString(strconv.FormatUint(m.Durable, 10))
		}
		return
	}
	host, port := s.address(0)
	number, _ := strconv.Atoi(port)
	state := "connected"
	switch {
	case !st.Members[0].Connected:
		state = "connect"
	case !st.Serving:
		state = "sync"
	}
	w.Array(5)
	w.BulkString("slave")
	w.BulkString(host)
	w.Int(int64(number))
	w.BulkString(state)
	w.Int(int64(st.Installed))
}

// address is where a member serves Redis clients; "?" and "0" before it has said so.
func (s *server) address(member int) (host, port string) {
	host, port, err := net.SplitHostPort(s.peers[member])
	if err != nil {
		return "?", "0"
	}
	return host, port
}

// state condenses the engine's status.
func (s *server) state(st shard.Status) State {
	state := State{Serving: st.Serving, Role: "backup", Epoch: st.Epoch, Admin: s.admin}
	if st.Primary {
		state.Role = "primary"
	}
	if st.Err != nil {
		state.Serving, state.Failed = false, st.Err.Error()
	} else if !st.Serving {
		var missing []string
		for _, m := range st.Members {
			if !m.Connected {
				missing = append(missing, "member "+strconv.Itoa(m.ID)+" ("+m.Name+")")
			}
		}
		if state.Waiting = "the primary to bring all members up to date"; len(missing) > 0 {
			state.Waiting = strings.Join(missing, " and ")
		}
	}
	return state
}
