package node

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/command"
	"whale/internal/shard"
)

// Info implements [command.Server]. Fields that Redis has keep its names and units; lags are in records and say so.
func (s *server) Info(dst []byte, section string) []byte {
	f := fields{dst}
	st := s.loop.engine.Status()
	switch section {
	case "server":
		s.infoServer(&f)
	case "clients":
		f.add("connected_clients", s.connected())
		f.add("maxclients", s.cfg.MaxClients)
		f.add("blocked_clients", s.waiting())
	case "memory":
		s.infoMemory(&f)
	case "persistence":
		f.add("loading", 0)
		f.add("whale_durable_in", s.figures().domain)
		f.add("whale_log_records", st.End)
	case "stats":
		s.infoStats(&f)
	case "replication":
		s.infoReplication(&f, &st)
	case "cpu":
		infoCPU(&f)
	case "cluster":
		f.add("cluster_enabled", 0)
	case "keyspace":
		if s.primary && st.Keys > 0 {
			f.add("db0", fmt.Sprintf("keys=%d,expires=%d,avg_ttl=0", st.Keys, st.Timed))
		}
	case "whale":
		s.infoWhale(&f, &st)
	}
	return f.dst
}

// fields appends "name:value" lines.
type fields struct{ dst []byte }

func (f *fields) add(name string, value any) { f.dst = fmt.Appendf(f.dst, "%s:%v\r\n", name, value) }

func (f *fields) bit(name string, value bool) {
	if value {
		f.add(name, 1)
	} else {
		f.add(name, 0)
	}
}

func (s *server) infoServer(f *fields) {
	up := time.Since(s.started)
	f.add("redis_version", command.RedisVersion)
	f.add("redis_mode", "standalone")
	f.add("server_name", "whale")
	f.add("whale_version", s.cfg.Version)
	f.add("os", "Linux "+runtime.GOARCH)
	f.add("arch_bits", strconv.IntSize)
	f.add("multiplexing_api", "epoll")
	f.add("go_version", runtime.Version())
	f.add("process_id", os.Getpid())
	f.add("run_id", fmt.Sprintf("%016x", s.cfg.incarnation))
	_, port := splitAddress(s.laddr)
	f.add("tcp_port", port)
	f.add("server_time_usec", time.Now().UnixMicro())
	f.add("uptime_in_seconds", int64(up.Seconds()))
	f.add("uptime_in_days", int64(up.Hours()/24))
	f.add("whale_member", s.cfg.ID)
	f.add("whale_folder", s.cfg.Dir)
	f.add("io_threads_active", 0)
}

func (s *server) infoMemory(f *fields) {
	sizes := s.figures()
	heap := goHeap()
	f.add("used_memory", sizes.arenaUsed+sizes.index+heap)
	f.add("used_memory_dataset", sizes.arenaUsed)
	f.add("used_memory_overhead", sizes.index+heap)
	f.add("whale_arena_bytes", sizes.arena)
	f.add("whale_arena_used_bytes", sizes.arenaUsed)
	f.add("whale_index_bytes", sizes.index)
	f.add("whale_go_heap_bytes", heap)
	f.add("maxmemory", sizes.arena)
	f.add("maxmemory_policy", "noeviction")
}

// goHeap is what Go's heap holds, from a counter that is read without stopping anything.
func goHeap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

func (s *server) infoStats(f *fields) {
	commands, in, out := s.counted()
	f.add("total_connections_received", s.total.Load())
	f.add("rejected_connections", s.rejected.Load())
	f.add("total_commands_processed", commands-s.base.commands.Load())
	f.add("total_net_input_bytes", in-s.base.in.Load())
	f.add("total_net_output_bytes", out-s.base.out.Load())
}

func (s *server) infoReplication(f *fields, st *shard.Status) {
	if !s.primary {
		host, port := s.address(0)
		link := "down"
		if st.Members[0].Connected && st.Serving {
			link = "up"
		}
		f.add("role", "slave")
		f.add("master_host", host)
		f.add("master_port", port)
		f.add("master_link_status", link)
		f.add("slave_read_only", 0) // writes are taken, and forwarded
		f.add("slave_repl_offset", st.Installed)
		f.add("master_repl_offset", st.Stable)
		s.infoPositions(f, st)
		return
	}
	f.add("role", "master")
	up := 0
	for _, m := range st.Members {
		if m.Self || !m.Connected {
			continue
		}
		host, port := s.address(m.ID)
		f.add("slave"+strconv.Itoa(up), fmt.Sprintf("ip=%s,port=%s,state=online,offset=%d", host, port, m.Durable))
		up++
	}
	f.add("connected_slaves", up)
	f.add("master_repl_offset", st.End)
	s.infoPositions(f, st)
}

// infoPositions are the positions that whale status explains, and at P what of the log each member lacks.
func (s *server) infoPositions(f *fields, st *shard.Status) {
	lags := s.loop.engine.Lags(monotonic())
	position := func(seq uint64, l *shard.Lag) string {
		return fmt.Sprintf("record=%d,lag_records=%d,lag_bytes=%d,lag_ms=%.1f", seq, l.Records, l.Bytes, float64(l.Time.Microseconds())/1000)
	}
	f.add("prepared", fmt.Sprintf("record=%d", st.End))
	f.add("stable", position(st.Stable, &lags.Stable))
	if !s.primary {
		return
	}
	f.add("everywhere", position(st.Every, &lags.Everywhere))
	behind := func(seq uint64) uint64 { return st.End - min(seq, st.End) }
	for _, m := range st.Members {
		if m.Self {
			continue
		}
		connected := 0
		if m.Connected {
			connected = 1
		}
		durable := &lags.Members[m.ID].Durable
		f.add("member"+strconv.Itoa(m.ID), fmt.Sprintf("connected=%d,drained_lag_records=%d,durable_lag_records=%d,durable_lag_bytes=%d,durable_lag_ms=%.1f,forwarded_lag_records=%d,name=%s",
			connected, behind(m.Drained), durable.Records, durable.Bytes, float64(durable.Time.Microseconds())/1000, behind(m.Forwarded), m.Name))
	}
}

func infoCPU(f *fields) {
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) != nil {
		return
	}
	f.add("used_cpu_sys", fmt.Sprintf("%d.%06d", use.Stime.Sec, use.Stime.Usec))
	f.add("used_cpu_user", fmt.Sprintf("%d.%06d", use.Utime.Sec, use.Utime.Usec))
}

// infoWhale shows the protocol's positions as record numbers, how far they are behind what is prepared here, and the
// members; whale status reads it.
func (s *server) infoWhale(f *fields, st *shard.Status) {
	state := s.state(*st)
	f.add("whale_role", state.Role)
	f.bit("whale_serving", state.Serving)
	f.add("whale_epoch", st.Epoch)
	f.add("whale_member", s.cfg.ID)
	f.add("whale_members", len(st.Members))
	lags := s.loop.engine.Lags(monotonic())
	if state.Waiting != "" {
		f.add("whale_waiting_for", state.Waiting)
	}
	if state.Failed != "" {
		f.add("whale_failed", state.Failed)
	}
	f.add("whale_prepared", st.End)
	f.add("whale_stable", st.Stable)
	f.add("whale_stable_lag", lagText(&lags.Stable))
	for i, m := range st.Members {
		text := "address=" + s.peers[i]
		if m.Self {
			text = "address=" + s.laddr
		}
		text += fmt.Sprintf(",connected=%t,name=%s", m.Connected, m.Name)
		if s.primary && !m.Self {
			text += fmt.Sprintf(",durable=%d,durable_lag=%s", m.Durable, lagText(&lags.Members[i].Durable))
		}
		f.add("whale_member"+strconv.Itoa(m.ID), text)
	}
	if !s.primary {
		f.add("whale_drained", st.Drained)
		f.add("whale_installed", st.Installed)
		return
	}
	f.bit("whale_writable", st.Writable)
	f.add("whale_everywhere", st.Every)
	f.add("whale_everywhere_lag", lagText(&lags.Everywhere))
}

// lagText is "records/bytes/milliseconds".
func lagText(l *shard.Lag) string {
	return fmt.Sprintf("%d/%d/%.1f", l.Records, l.Bytes, float64(l.Time.Microseconds())/1000)
}
