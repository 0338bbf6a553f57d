"""``make soak``: a real server under hostile and honest load, watched for what grows."""
