"""Parts of the serving benchmark, one file a claim; peers' servers import nothing of ours."""
