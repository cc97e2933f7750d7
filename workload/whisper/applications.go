package whisper

import (
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
	{func() workload.Workload { return must(echo.New(echo.Params{})) }, Measured{"325/389/416 (380)", "93.1%", "1.40, 17", "542", "265", "12.5 k"}},
	{func() workload.Workload { return must(ycsb.New(ycsb.Params{})) }, Measured{"49/50/50 (49.6)", "81.8%", "1.42, 5", "71", "36", "1.2 k"}},
	{func() workload.Workload { return must(tpcc.New(tpcc.Params{})) }, Measured{"143/192/954 (415)", "85.7%", "1.35, 7", "243", "250", "7.1 k"}},
	{func() workload.Workload { return must(ctree.New(ctree.Params{})) }, Measured{"18/18/18 (18)", "66.7%", "1.56, 6", "28", "12", "0.37 k"}},
	{func() workload.Workload { return must(hashmap.New(hashmap.Params{})) }, Measured{"20/20/20 (23.7; 5387)", "67.0%", "1.91, 8", "31", "18.5", "0.5 k"}},
	{func() workload.Workload { return must(redis.New(redis.Params{})) }, Measured{Epochs: "median 6 (recalled)"}},
	{func() workload.Workload { return must(vacation.New(vacation.Params{})) }, Measured{Epochs: "median 4 (recalled)"}},
	{func() workload.Workload { return must(memcached.New(memcached.Params{})) }, Measured{Epochs: "median 4 (recalled)"}},
	{func() workload.Workload { return must(fsload.New(fsload.NFS, fsload.Params{})) }, Measured{Epochs: "2 to 7 (recalled)", Width: "16.8; p95 65"}},
	{func() workload.Workload { return must(fsload.New(fsload.Exim, fsload.Params{})) }, Measured{Epochs: "2 to 7 (recalled)", Width: "3.9; p95 4"}},
	{func() workload.Workload { return must(fsload.New(fsload.MySQL, fsload.Params{})) }, Measured{Epochs: "2 to 7 (recalled)"}},
}

// must is for parameters that are all defaults.
func must[W any](w W, err error) W {
	if err != nil {
		panic(err)
	}
	return w
}
