mod parallel;
