package whisper

import (
	"whale/workload"
	"whale/workload/whisper/vacation"
	"whale/workload/whisper/ycsb"
)

// Applications are all that there are. The measured figures are of small runs of the authors' own instrumented sources, with one
// thread; what is marked as recalled rests on memory of their paper.
var Applications = []Application{
	{func() workload.Workload { return must(ycsb.New(ycsb.Params{})) }, Measured{"49/50/50 (49.6)", "81.8%", "1.42, 5", "71", "36", "1.2 k"}},
	{func() workload.Workload { return must(vacation.New(vacation.Params{})) }, Measured{Epochs: "median 4 (recalled)"}},
}

// must is for parameters that are all defaults.
func must[W any](w W, err error) W {
	if err != nil {
		panic(err)
	}
	return w
}
