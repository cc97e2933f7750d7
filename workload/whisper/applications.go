package whisper

// Applications are all that there are. The measured figures are of small runs of the authors' own instrumented sources, with one
// thread; what is marked as recalled rests on memory of their paper.
var Applications = []Application{}
