package whisper

import (
	"time"

	"whale/workload"
	"whale/workload/whisper/ctree"
	"whale/workload/whisper/echo"
	"whale/workload/whisper/fsload"
	"whale/workload/whisper/hashmap"
	"whale/workload/whisper/memcached"
	"whale/workload/whisper/redis"
	"whale/workload/whisper/tpcc"
	"whale/workload/whisper/vacation"
	"whale/workload/whisper/ycsb"
)

// Applications are all that there are. The measured figures are of small runs of the authors' own instrumented sources, with one
// thread; what is marked as recalled rests on memory of their paper.
var Applications = []Application{
	{func(think time.Duration) (workload.Workload, error) { return echo.New(echo.Params{Think: think}) }, Measured{"325/389/416 (380)", "93.1%", "1.40, 17", "542", "265", "12.5 k"}},
	{func(think time.Duration) (workload.Workload, error) { return ycsb.New(ycsb.Params{Think: think}) }, Measured{"49/50/50 (49.6)", "81.8%", "1.42, 5", "71", "36", "1.2 k"}},
	{func(think time.Duration) (workload.Workload, error) { return tpcc.New(tpcc.Params{Think: think}) }, Measured{"143/192/954 (415)", "85.7%", "1.35, 7", "243", "250", "7.1 k"}},
	{func(think time.Duration) (workload.Workload, error) { return ctree.New(ctree.Params{Think: think}) }, Measured{"18/18/18 (18)", "66.7%", "1.56, 6", "28", "12", "0.37 k"}},
	{func(think time.Duration) (workload.Workload, error) { return hashmap.New(hashmap.Params{Think: think}) }, Measured{"20/20/20 (23.7; 5387)", "67.0%", "1.91, 8", "31", "18.5", "0.5 k"}},
	{func(think time.Duration) (workload.Workload, error) { return redis.New(redis.Params{Think: think}) }, Measured{Epochs: "median 6 (recalled)"}},
	{func(think time.Duration) (workload.Workload, error) {
		return vacation.New(vacation.Params{Think: think})
	}, Measured{Epochs: "median 4 (recalled)"}},
	{func(think time.Duration) (workload.Workload, error) {
		return memcached.New(memcached.Params{Think: think})
	}, Measured{Epochs: "median 4 (recalled)"}},
	{func(think time.Duration) (workload.Workload, error) {
		return fsload.New(fsload.NFS, fsload.Params{Think: think})
	}, Measured{Epochs: "2 to 7 (recalled)", Width: "16.8; p95 65"}},
	{func(think time.Duration) (workload.Workload, error) {
		return fsload.New(fsload.Exim, fsload.Params{Think: think})
	}, Measured{Epochs: "2 to 7 (recalled)", Width: "3.9; p95 4"}},
	{func(think time.Duration) (workload.Workload, error) {
		return fsload.New(fsload.MySQL, fsload.Params{Think: think})
	}, Measured{Epochs: "2 to 7 (recalled)"}},
}
