package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"whale/internal/shard"
)

// snapshot is what the loop says of the node when it is asked.
type snapshot struct {
	state   State
	status  shard.Status
	lags    shard.Lags
	figures figures
}

const (
	snapshotAge   = 100 * time.Millisecond // asked more often, the last one is shown again
	snapshotLimit = 2 * time.Second        // the loop answers within microseconds, unless it is stuck
)

var errLoopStuck = fmt.Errorf("the node's loop has not answered for %v: it is stuck, or the machine has no time for it", snapshotLimit)

// admin is the HTTP server for operators: metrics, probes and profiles. It runs on goroutines of its own and asks the loop
// for what only that knows.
type admin struct {
	server   *server
	log      *slog.Logger
	listener net.Listener
	http     http.Server
	limit    time.Duration // how long the loop may take to answer

	mu   sync.Mutex
	last snapshot
	at   time.Time
}

// newAdmin listens on addr.
func newAdmin(addr string, insecure bool, s *server, log *slog.Logger) (*admin, error) {
	ap, err := resolve(addr)
	if err != nil {
		return nil, permanent(fmt.Errorf("--admin: %w", err))
	}
	if !insecure && !ap.Addr().IsLoopback() {
		return nil, permanent(fmt.Errorf("--admin %s would show everybody who reaches it the node's metrics and memory profiles: use a loopback address, or accept that with --insecure", addr))
	}
	l, err := net.Listen("tcp", ap.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen for operators: %w; choose another address with --admin", err)
	}
	a := &admin{server: s, log: log, listener: l, limit: snapshotLimit}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{admin: a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, ErrorHandling: promhttp.HTTPErrorOnError}))
	mux.HandleFunc("/livez", a.live)
	mux.HandleFunc("/readyz", a.ready)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	a.http = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	return a, nil
}

// addr is where it listens.
func (a *admin) addr() string { return a.listener.Addr().String() }

// run serves until close.
func (a *admin) run() {
	if err := a.http.Serve(a.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		a.log.Error("the admin address is not served any more", "error", err)
	}
}

// close ends all connections at once: nothing of worth is lost.
func (a *admin) close() { a.http.Close() }

// look asks the loop.
func (a *admin) look() (snapshot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.at) < snapshotAge {
		return a.last, nil
	}
	answer := make(chan snapshot, 1) // the loop never waits, even if nobody reads it any more
	a.server.loop.mail.put(message{ask: answer})
	ctx, cancel := context.WithTimeout(context.Background(), a.limit)
	defer cancel()
	select {
	case a.last = <-answer:
		a.at = time.Now()
		return a.last, nil
	case <-ctx.Done():
		return snapshot{}, fmt.Errorf("the node's loop has not answered for %v: it is stuck, or the machine has no time for it", a.limit)
	}
}

// snapshot is for the loop's goroutine.
func (l *loop) snapshot(now int64) snapshot {
	st := l.engine.Status()
	return snapshot{state: l.server.state(st), status: st, lags: l.engine.Lags(now), figures: l.server.figures()}
}

func (a *admin) live(w http.ResponseWriter, _ *http.Request) {
	if _, err := a.look(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "alive")
}

// ready tells whether the node may serve linearizable reads now: it is of the current view, and, if it is a backup, can
// ask the primary about keys that are just being written.
func (a *admin) ready(w http.ResponseWriter, _ *http.Request) {
	s, err := a.look()
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	case s.state.Failed != "":
		why = s.state.Failed
	case !s.state.Serving:
		why = "waiting for " + s.state.Waiting
	case !s.status.Members[0].Connected:
		why = "not connected to the primary"
	}
	if why != "" {
		http.Error(w, "not ready: "+why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "ready: %s, epoch %d\n", s.state.Role, s.state.Epoch)
}
